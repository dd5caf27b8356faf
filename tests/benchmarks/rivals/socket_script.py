"""A script as the manufacturer describes one, written from the Custom API document: sockets, one connection at a time.

Values are filled in by hand; each request is read, split into words, answered from them, and its connection closed.
"""

import json
import os
import socket
import sys

device_values = json.loads(os.environ["ANSWER"])
device_info = {"device_info": {}}
STATUS = {200: "OK", 404: "Not Found", 500: "Internal Server Error"}


def answer(request):
    words = request.decode().split("\r\n")[0].split(" ")
    if words[0] != "GET":
        return 500, {}
    documents = {"/api/v1/values.json": device_values, "/api/v1/info.json": device_info}
    return (200, documents[words[1]]) if words[1] in documents else (404, {})


def serve(port):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen()
    while True:
        connection, _ = server.accept()
        with connection:
            request = connection.recv(4096)
            if not request:
                continue
            status, document = answer(request)
            body = json.dumps(document)
            head = f"HTTP/1.1 {status} {STATUS[status]}\r\nContent-Type: application/json\r\n"
            head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            connection.sendall((head + body).encode())


if __name__ == "__main__":
    serve(int(sys.argv[1]))

# Where it is, and the very commands that come next. No output holds a secret.

locals {
  # The key goes from Secret Manager through a variable of a subshell into the tool; it is never an argument, in a file
  # or in the shell's history. The token's file is readable by its owner only.
  token_command = {
    for scope in ["push", "read", "admin"] : scope => join(" ", concat(
      [
        "(umask 077;",
        "NRGKICK_SIGNING_KEY=\"$(gcloud secrets versions access ${google_secret_manager_secret_version.signing_key[tostring(var.signing_key_generation)].version} --secret ${google_secret_manager_secret.signing_key.secret_id} --project ${var.project})\"",
        "nrgkick-cloud token --scope ${scope}",
      ],
      scope == "admin" ? ["--site '*' --expires 30d > nrgkick-admin.token)"] : ["--site home > nrgkick-${scope}.token)"],
    ))
  }

  proxy_command = "gcloud run services proxy ${google_cloudfunctions2_function.function.name} --project ${var.project} --region ${var.region} --port 8081"
  # What pushers and proxies are pointed at: the function, or Google's proxy on their own machine.
  pusher_url = var.access == "public" ? google_cloudfunctions2_function.function.service_config[0].uri : "http://127.0.0.1:8081"
}

output "url" {
  description = "URL of the function."
  value       = google_cloudfunctions2_function.function.service_config[0].uri
}

output "database" {
  description = "The Firestore database that holds the sites."
  value       = "projects/${var.project}/databases/${local.database_name}"
}

output "service_account" {
  description = "E-mail of the account that the function runs as."
  value       = google_service_account.function.email
}

output "signing_key_secret" {
  description = "The secret that holds the signing key; who may read it can make tokens."
  value       = google_secret_manager_secret.signing_key.id
}

output "source" {
  description = "The archive that was uploaded, under its content's hash."
  value       = "gs://${google_storage_bucket.source.name}/${google_storage_bucket_object.source.name}"
}

output "first_token" {
  description = "Commands that make the first tokens: one to push with, one to read with."
  value       = join("\n", [local.token_command["push"], local.token_command["read"]])
}

output "admin_token" {
  description = "Command that makes a token to change the settings of sites with; it ends after 30 days."
  value       = local.token_command["admin"]
}

output "first_pusher" {
  description = "Commands that start the first pusher, on a machine beside the devices."
  value = join("\n", concat(
    var.access == "public" ? [] : ["${local.proxy_command} &"],
    [
      "sudo install -D -m 600 nrgkick-push.token /etc/nrgkick-pusher/token",
      "sudo nrgkick-pusher init --url ${local.pusher_url} --token-file /etc/nrgkick-pusher/token --out /etc/nrgkick-pusher/pusher.yaml",
      "sudo nrgkick-pusher check --online --config /etc/nrgkick-pusher/pusher.yaml",
      "sudo nrgkick-pusher service --install --config /etc/nrgkick-pusher/pusher.yaml",
    ],
  ))
}

output "first_proxy" {
  description = "Command that writes the proxy between the wallbox and the cloud, on a machine beside it; the wallbox is then pointed at port 1000 of that machine."
  value = join(" ", concat(
    ["nrgkick-pusher proxy", var.access == "public" ? "nginx" : "gcloud", "--out nrgkick-proxy --cloud ${google_cloudfunctions2_function.function.service_config[0].uri}"],
    var.access == "public" ? [] : ["--service ${var.name} --region ${var.region} --project ${var.project}"],
    var.default_site == null ? ["--token-file nrgkick-read.token"] : [],
  ))
}

# What is uploaded: the code of function/ and schemas/ with the locked requirements, and nothing else. Files are named by
# what they are, not by what they are not, so that no cache, test or note of a working tree ever gets in.

locals {
  root = "${path.module}/.."

  code = [
    for file in concat(
      [for file in fileset("${local.root}/function", "**/*.{py,html,css,js,json}") : "function/${file}"],
      [for file in fileset("${local.root}/schemas", "**/*.{py,json}") : "schemas/${file}"],
    ) : file if !can(regex("(^|/)(\\.|__pycache__/|test_|conftest\\.py)", file))
  ]
  source_files = merge(
    { for file in local.code : file => file("${local.root}/${file}") },
    {
      # The framework looks for main.py and requirements.txt at the root.
      "main.py"          = file("${path.module}/source/main.py")
      "requirements.txt" = file("${local.root}/function/requirements.txt")
    },
  )
}

data "archive_file" "source" {
  type             = "zip"
  output_path      = "${path.root}/.terraform/${var.name}-source.zip"
  output_file_mode = "0644" # the same archive whatever the umask

  dynamic "source" {
    for_each = local.source_files
    content {
      filename = source.key
      content  = source.value
    }
  }

  lifecycle {
    precondition {
      condition     = contains(local.code, "function/main.py") && strcontains(try(local.source_files["function/main.py"], ""), "nrgkick")
      error_message = "function/main.py, which holds the target nrgkick, is missing beside terraform/: run this from a whole checkout. Google would only say so after the build."
    }

    precondition {
      condition = alltrue([
        for line in split("\n", local.source_files["requirements.txt"]) : strcontains(line, "==") && endswith(line, "\\")
        if can(regex("^[A-Za-z0-9]", line))
      ]) && strcontains(local.source_files["requirements.txt"], "--hash=sha256:")
      error_message = "function/requirements.txt must pin every requirement with its hashes; `make lock` writes it so."
    }
  }
}

resource "google_storage_bucket" "source" {
  # checkov:skip=CKV_GCP_62: an access log of a bucket that holds nothing but this public repository's code would cost more than it tells
  project                     = var.project
  name                        = "${var.project}-${var.name}-source"
  location                    = var.region
  labels                      = local.labels
  force_destroy               = true # nothing in it that is not in the repository
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  versioning {
    enabled = true
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 90
    }
  }

  depends_on = [time_sleep.services]
}

# Named by its content: a fixed name would never redeploy.
resource "google_storage_bucket_object" "source" {
  bucket = google_storage_bucket.source.name
  name   = "source-${data.archive_file.source.output_sha256}.zip"
  source = data.archive_file.source.output_path

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_artifact_registry_repository" "images" {
  # checkov:skip=CKV_GCP_84: the images hold public code; a key of one's own would have to be paid for and rotated to protect nothing
  project       = var.project
  location      = var.region
  repository_id = var.name
  description   = "Images of the function, made by its builds."
  format        = "DOCKER"
  labels        = local.labels

  # Cloud Run keeps its own copy of a serving image; five are for going back by hand.
  cleanup_policies {
    id     = "keep-five"
    action = "KEEP"
    most_recent_versions {
      keep_count = 5
    }
  }
  cleanup_policies {
    id     = "delete-after-a-month"
    action = "DELETE"
    condition {
      older_than = "2592000s"
    }
  }

  depends_on = [time_sleep.services]
}

# The function, and who may call it. The rest by concern: services.tf (APIs), identities.tf (who it runs and builds as),
# source.tf (what is uploaded), database.tf, signing_key.tf, monitoring.tf and dashboard.tf.

locals {
  labels = merge({ app = var.name }, var.labels)
}

resource "google_cloudfunctions2_function" "function" {
  # checkov:skip=CKV_GCP_124: wallboxes and pushers come from the internet; the function checks its own tokens, or Google does with access = "iam"
  project     = var.project
  location    = var.region
  name        = var.name
  description = "NRGkick Custom API for devices that the wallbox does not know"
  labels      = local.labels

  build_config {
    runtime           = var.runtime
    entry_point       = "nrgkick"
    docker_repository = google_artifact_registry_repository.images.id
    service_account   = google_service_account.build.id

    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = google_storage_bucket_object.source.name
      }
    }
  }

  # Start-up CPU boost has no argument here: Cloud Functions sets it on the service of every function of this generation.
  service_config {
    available_cpu                    = "1" # less would force a concurrency of 1
    available_memory                 = "512Mi"
    max_instance_request_concurrency = 80
    min_instance_count               = var.min_instances
    max_instance_count               = var.max_instances
    timeout_seconds                  = 60
    ingress_settings                 = "ALLOW_ALL"
    service_account_email            = google_service_account.function.email

    environment_variables = merge(
      {
        GOOGLE_CLOUD_PROJECT = var.project
        NRGKICK_STORE        = "firestore"
      },
      var.database.name == "(default)" ? {} : { NRGKICK_FIRESTORE_DATABASE = local.database_name },
      var.default_site == null ? {} : { NRGKICK_DEFAULT_SITE = var.default_site },
    )

    # By version, not "latest": a new key then makes a new revision, instead of instances that disagree.
    dynamic "secret_environment_variables" {
      for_each = {
        for key, generation in {
          NRGKICK_SIGNING_KEY          = var.signing_key_generation
          NRGKICK_PREVIOUS_SIGNING_KEY = var.signing_key_generation - 1
        } : key => tostring(generation) if generation > 0
      }
      content {
        key        = secret_environment_variables.key
        project_id = var.project
        secret     = google_secret_manager_secret.signing_key.secret_id
        version    = google_secret_manager_secret_version.signing_key[secret_environment_variables.value].version
      }
    }
  }

  # The grants, or its first instance could not read its key; the index, or its first fleet query would fail.
  depends_on = [
    google_firestore_index.fleet,
    time_sleep.grants,
  ]
}

# On the Cloud Run service below the function; the function's own IAM is refused for this generation. Public on purpose
# unless access = "iam": the function checks its own tokens.
resource "google_cloud_run_v2_service_iam_member" "invokers" {
  for_each = var.access == "public" ? toset(["allUsers"]) : var.invokers
  project  = var.project
  location = google_cloudfunctions2_function.function.location
  name     = google_cloudfunctions2_function.function.name
  role     = "roles/run.invoker"
  member   = each.key

  lifecycle {
    # A function made anew comes without its grants. By id, or each redeployment would lock everybody out for a moment.
    replace_triggered_by = [google_cloudfunctions2_function.function.id]
  }
}

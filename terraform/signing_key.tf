# The key that signs tokens. It is drawn at apply, goes to Secret Manager by a write-only argument, and is nowhere else:
# not in the state, not in a plan, not in an output.

locals {
  # The current generation, and the one before it, whose tokens are still good.
  signing_key_generations = toset([
    for generation in [var.signing_key_generation - 1, var.signing_key_generation] : tostring(generation) if generation > 0
  ])
}

# A new value at every plan; only a version that is being made takes one.
ephemeral "random_password" "signing_key" {
  for_each = local.signing_key_generations
  length   = 64
  special  = false
}

resource "google_secret_manager_secret" "signing_key" {
  project   = var.project
  secret_id = "${var.name}-signing-key"
  labels    = local.labels

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }

  depends_on = [time_sleep.services]
}

resource "google_secret_manager_secret_version" "signing_key" {
  for_each               = local.signing_key_generations
  secret                 = google_secret_manager_secret.signing_key.id
  secret_data_wo         = ephemeral.random_password.signing_key[each.key].result
  secret_data_wo_version = tonumber(each.key)
  deletion_policy        = "DELETE"

  lifecycle {
    # A version that falls out goes after the function has let go of it, or a starting instance would miss its key.
    create_before_destroy = true
  }
}

# The APIs, enabled and waited for. They stay enabled on destroy: other things in the project may live by them.

locals {
  services = toset(concat(
    [
      "artifactregistry.googleapis.com",
      "cloudbuild.googleapis.com",
      "cloudfunctions.googleapis.com",
      "cloudresourcemanager.googleapis.com",
      "firestore.googleapis.com",
      "iam.googleapis.com",
      "logging.googleapis.com",
      "monitoring.googleapis.com",
      "run.googleapis.com",
      "secretmanager.googleapis.com",
      "storage.googleapis.com",
    ],
    var.budget == null ? [] : ["billingbudgets.googleapis.com"],
  ))
}

resource "google_project_service" "services" {
  for_each           = local.services
  project            = var.project
  service            = each.key
  disable_on_destroy = false
}

# Enabling returns before the API answers everywhere; a resource made in that gap fails with 403.
resource "time_sleep" "services" {
  create_duration = "60s"
  triggers        = { services = join(",", sort(local.services)) }
  depends_on      = [google_project_service.services]
}

# Two identities, each with no more than its work needs: one that the function runs as, one that builds it. Google's
# default build identity may not build in new projects, and elsewhere may do far too much.

resource "google_service_account" "function" {
  project      = var.project
  account_id   = "${var.name}-function"
  display_name = "${var.name}: the function"
  description  = "Reads and writes its Firestore database, reads its one secret, writes logs."

  depends_on = [time_sleep.services]
}

resource "google_project_iam_member" "function_database" {
  project = var.project
  role    = "roles/datastore.user"
  member  = google_service_account.function.member

  condition {
    title       = "${var.name} database"
    description = "Only the database that holds the sites."
    expression  = "resource.name == \"projects/${var.project}/databases/${var.database.name}\""
  }
}

resource "google_project_iam_member" "function_logs" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = google_service_account.function.member
}

resource "google_secret_manager_secret_iam_member" "function_signing_key" {
  project   = var.project
  secret_id = google_secret_manager_secret.signing_key.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.function.member
}

resource "google_service_account" "build" {
  project      = var.project
  account_id   = "${var.name}-build"
  display_name = "${var.name}: its build"
  description  = "Reads the source archive, writes the image and the build's log."

  depends_on = [time_sleep.services]
}

resource "google_project_iam_member" "build_logs" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = google_service_account.build.member
}

resource "google_storage_bucket_iam_member" "build_source" {
  bucket = google_storage_bucket.source.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.build.member
}

# Cloud Functions copies an archive into a bucket of its own, which does not exist before the first deployment, and
# builds from there. https://cloud.google.com/functions/docs/building
resource "google_project_iam_member" "build_copied_source" {
  project = var.project
  role    = "roles/storage.objectViewer"
  member  = google_service_account.build.member

  condition {
    title       = "${var.name} build source"
    description = "Only the buckets in which Cloud Functions keeps source archives."
    expression  = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-\")"
  }
}

resource "google_artifact_registry_repository_iam_member" "build_images" {
  project    = var.project
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.build.member
}

# A grant takes up to a minute or two to be known everywhere; a build or an instance that starts before fails.
resource "time_sleep" "grants" {
  create_duration = "60s"
  triggers = {
    build    = google_service_account.build.email
    function = google_service_account.function.email
  }

  depends_on = [
    google_artifact_registry_repository_iam_member.build_images,
    google_project_iam_member.build_copied_source,
    google_project_iam_member.build_logs,
    google_project_iam_member.function_database,
    google_project_iam_member.function_logs,
    google_secret_manager_secret_iam_member.function_signing_key,
    google_storage_bucket_iam_member.build_source,
  ]
}

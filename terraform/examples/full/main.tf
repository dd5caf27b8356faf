# Everything set: reached only through Google's own proxy, a database of its own, backups, alerts and a budget.
#
# For a team, keep the state in a bucket (made once: gcloud storage buckets create gs://my-project-tfstate
# --location europe-west1 --uniform-bucket-level-access, then versioned with gcloud storage buckets update --versioning):
#
#   terraform {
#     backend "gcs" {
#       bucket = "my-project-tfstate"
#       prefix = "nrgkick"
#     }
#   }

variable "project" {
  description = "Id of the Google Cloud project."
  type        = string
}

variable "region" {
  description = "Region to deploy to, for example europe-west1."
  type        = string
}

variable "billing_account" {
  description = "Id of the billing account whose spending is watched."
  type        = string
}

variable "email" {
  description = "Address that hears of alarms."
  type        = string
}

provider "google" {
  project = var.project
  region  = var.region
  # The budget's API bills its quota to a project, and wants to be told which.
  billing_project       = var.project
  user_project_override = true
}

module "nrgkick" {
  source  = "../.."
  project = var.project
  region  = var.region
  name    = "solar"
  labels  = { team = "energy" }

  runtime       = "python313"
  min_instances = 1
  max_instances = 20

  access                 = "iam"
  invokers               = ["serviceAccount:pusher@${var.project}.iam.gserviceaccount.com"]
  default_site           = "home"
  signing_key_generation = 2

  database = {
    name                   = "solar"
    location               = "eur3"
    point_in_time_recovery = true
    backup_retention_days  = 7
  }

  metrics                  = true
  dashboard                = true
  exclude_successful_polls = true
  alerts = {
    email               = var.email
    site_silent_minutes = 15
    error_rate          = 0.005
    latency_ms          = 500
  }
  budget = {
    billing_account = var.billing_account
    amount          = 25
    currency        = "EUR"
  }
}

output "nrgkick" {
  description = "All that the module says."
  value       = module.nrgkick
}

# What this module needs, and nothing about where it runs: no provider and no backend block, so that it serves as a root
# module (`terraform apply` here) and as a part of a larger one (`module "nrgkick"`).

terraform {
  required_version = ">= 1.11" # write-only arguments

  required_providers {
    archive = {
      source  = "hashicorp/archive"
      version = ">= 2.7, < 3"
    }
    google = {
      source  = "hashicorp/google"
      version = ">= 6.50, < 8"
    }
    random = {
      source  = "hashicorp/random"
      version = ">= 3.7.1, < 4" # ephemeral random_password
    }
    time = {
      source  = "hashicorp/time"
      version = ">= 0.12, < 1"
    }
  }
}

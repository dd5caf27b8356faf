# One house, everything else as it comes:
#   terraform init && terraform apply -var project=my-project -var region=europe-west1

variable "project" {
  description = "Id of the Google Cloud project."
  type        = string
}

variable "region" {
  description = "Region to deploy to, for example europe-west1."
  type        = string
}

module "nrgkick" {
  source  = "../.."
  project = var.project
  region  = var.region
}

output "url" {
  description = "URL of the function."
  value       = module.nrgkick.url
}

output "first_token" {
  description = "Commands that make the first tokens."
  value       = module.nrgkick.first_token
}

output "first_pusher" {
  description = "Commands that start the first pusher."
  value       = module.nrgkick.first_pusher
}

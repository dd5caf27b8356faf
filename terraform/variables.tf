# Two variables are required; the rest have defaults that suit one house. Every refusal says what is allowed.

variable "project" {
  description = "Id of the Google Cloud project to deploy into. It must exist and have billing enabled."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project must be a project id (not its name or number): 6 to 30 lowercase letters, digits and hyphens, beginning with a letter, not ending with a hyphen."
  }
}

variable "region" {
  description = "Region of the function, its images and, unless database.location says otherwise, of the data; for example europe-west1."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]{1,2}$", var.region))
    error_message = "region must be a Cloud Run region such as europe-west1, us-central1 or northamerica-northeast1; a zone (europe-west1-b) or a multi-region (eur3) is not one."
  }
}

variable "name" {
  description = "Name of the function and prefix of everything else. Two deployments in one project need two names and two databases."
  type        = string
  default     = "nrgkick"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,18}[a-z0-9]$", var.name))
    error_message = "name must be 4 to 20 lowercase letters, digits and hyphens, beginning with a letter, not ending with a hyphen (service account ids end at 30)."
  }
}

variable "labels" {
  description = "Labels for everything that takes labels; the cost report can be split by them."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition = alltrue([
      for key, value in var.labels :
      can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))
    ])
    error_message = "labels: a key is 1 to 63 lowercase letters, digits, underscores and hyphens beginning with a letter; a value is up to 63 of the same characters."
  }
}

# ---------------------------------------------------------------- the function

variable "runtime" {
  description = "Python runtime of the function."
  type        = string
  default     = "python314"
  nullable    = false

  validation {
    condition     = contains(["python311", "python312", "python313", "python314"], var.runtime)
    error_message = "runtime must be one of python311, python312, python313, python314."
  }
}

variable "min_instances" {
  description = "Instances kept warm. 0 costs nothing while nobody asks; 1 spares the first request the start and costs about 10 dollars a month."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.min_instances >= 0 && var.min_instances <= 100 && floor(var.min_instances) == var.min_instances
    error_message = "min_instances must be a whole number from 0 to 100."
  }
}

variable "max_instances" {
  description = "Instances at most: the bound of what a flood of requests can cost. One instance serves 80 requests at a time."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 1000 && floor(var.max_instances) == var.max_instances
    error_message = "max_instances must be a whole number from 1 to 1000."
  }

  validation {
    condition     = var.max_instances >= var.min_instances
    error_message = "max_instances must not be less than min_instances."
  }
}

variable "access" {
  description = "Who may reach the function: \"public\", anyone, and the function checks its own tokens; \"iam\", only var.invokers, through Google's own proxy. An organization that restricts sharing to its domain refuses \"public\"."
  type        = string
  default     = "public"
  nullable    = false

  validation {
    condition     = contains(["public", "iam"], var.access)
    error_message = "access must be one of public, iam."
  }
}

variable "invokers" {
  description = "Members who may call the function when access is \"iam\", for example serviceAccount:pusher@my-project.iam.gserviceaccount.com."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for member in var.invokers : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):.+", member))
    ])
    error_message = "invokers: each must begin with user:, group:, serviceAccount:, domain:, principal: or principalSet:; for everybody set access = \"public\"."
  }

  validation {
    condition     = length(var.invokers) == 0 || var.access == "iam"
    error_message = "invokers are only for access = \"iam\"; with \"public\" everybody may call."
  }
}

variable "default_site" {
  description = "Site whose values.json and info.json are served without a token of ours. Only with access = \"iam\", where Google has already checked who asks."
  type        = string
  default     = null

  validation {
    condition     = var.default_site == null || can(regex("^[a-z0-9][a-z0-9-]{0,62}$", var.default_site))
    error_message = "default_site must be a site's name: 1 to 63 lowercase letters, digits and hyphens, not beginning with a hyphen."
  }

  validation {
    condition     = var.default_site == null || var.access == "iam"
    error_message = "default_site is refused unless access = \"iam\": a public function would show that house to the world."
  }
}

variable "signing_key_generation" {
  description = "Raise by one to sign tokens with a new key; tokens of the generation before stay valid until the next raise. Raise by two to end all tokens at once."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.signing_key_generation >= 1 && floor(var.signing_key_generation) == var.signing_key_generation
    error_message = "signing_key_generation must be a whole number from 1 on."
  }
}

# ---------------------------------------------------------------- the data

variable "database" {
  description = <<-EOT
    The Firestore database.
    create: false uses a database (native mode, standard edition) that is there already; its collections sites, archive and days must be ours.
    name: "(default)" is the one with the free quota.
    location: a region or a multi-region (eur3, nam5, nam7); the region if not given. It can never be changed.
    point_in_time_recovery: keeps every version of the last seven days, billed as storage.
    backup_retention_days: a backup each day, kept this long; 0 makes none.
    delete_on_destroy: true lifts the delete protection, and `terraform destroy` then deletes the data. Apply it first.
  EOT
  type = object({
    create                 = optional(bool, true)
    name                   = optional(string, "(default)")
    location               = optional(string)
    point_in_time_recovery = optional(bool, false)
    backup_retention_days  = optional(number, 0)
    delete_on_destroy      = optional(bool, false)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.database.name == "(default)" || can(regex("^[a-z][a-z0-9-]{2,61}[a-z0-9]$", var.database.name))
    error_message = "database.name must be \"(default)\" or 4 to 63 lowercase letters, digits and hyphens, beginning with a letter, not ending with a hyphen."
  }

  validation {
    condition     = var.database.location == null || can(regex("^([a-z]+-[a-z]+[0-9]{1,2}|eur3|nam5|nam7)$", var.database.location))
    error_message = "database.location must be a region such as europe-west1, or one of eur3, nam5, nam7."
  }

  validation {
    condition = (
      var.database.backup_retention_days >= 0 && var.database.backup_retention_days <= 98 &&
      floor(var.database.backup_retention_days) == var.database.backup_retention_days
    )
    error_message = "database.backup_retention_days must be a whole number from 0 (no backups) to 98 (14 weeks)."
  }

  validation {
    condition     = var.database.create || !(var.database.delete_on_destroy || var.database.point_in_time_recovery || var.database.location != null)
    error_message = "database: location, point_in_time_recovery and delete_on_destroy are settings of a database that is made here; with create = false leave them out."
  }
}

# ---------------------------------------------------------------- operations

variable "metrics" {
  description = "Count accepted and rejected readings, stale polls and server errors from the logs. The alerts site_silent and error_rate and the dashboard look at these."
  type        = bool
  default     = true
  nullable    = false
}

variable "alerts" {
  description = <<-EOT
    Alert policies, and who hears of them.
    email: address to write to; without one the alerts show in the console only.
    site_silent_minutes: a site that was heard of is silent this long; 0: no such alert. It is priced by the site (see README).
    error_rate: share of requests that fail by the server's fault, over five minutes; 0: no such alert.
    latency_ms: 95 % of the requests are answered within this, over five minutes; 0: no such alert.
  EOT
  type = object({
    email               = optional(string)
    site_silent_minutes = optional(number, 10)
    error_rate          = optional(number, 0.01)
    latency_ms          = optional(number, 1000)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.alerts.email == null || can(regex("^[^@[:space:]]+@[^@[:space:]]+\\.[^@[:space:]]+$", var.alerts.email))
    error_message = "alerts.email must be an e-mail address such as me@example.org."
  }

  validation {
    condition = (
      var.alerts.site_silent_minutes == 0 || var.alerts.site_silent_minutes >= 2 && var.alerts.site_silent_minutes <= 1410
    ) && floor(var.alerts.site_silent_minutes) == var.alerts.site_silent_minutes
    error_message = "alerts.site_silent_minutes must be 0 (no such alert) or a whole number from 2 to 1410 (23.5 hours, the longest that Google watches)."
  }

  validation {
    condition     = var.alerts.error_rate >= 0 && var.alerts.error_rate < 1
    error_message = "alerts.error_rate must be 0 (no such alert) or a share less than 1, such as 0.01."
  }

  validation {
    condition     = var.alerts.latency_ms >= 0
    error_message = "alerts.latency_ms must be 0 (no such alert) or a number of milliseconds."
  }

  validation {
    condition     = var.metrics || var.alerts.site_silent_minutes == 0 && var.alerts.error_rate == 0
    error_message = "alerts: site_silent_minutes and error_rate look at the log-based metrics; with metrics = false set both to 0."
  }
}

variable "dashboard" {
  description = "Make a dashboard in Cloud Monitoring."
  type        = bool
  default     = true
  nullable    = false

  validation {
    condition     = var.metrics || !var.dashboard
    error_message = "dashboard shows the log-based metrics; with metrics = false set dashboard = false."
  }
}

variable "exclude_successful_polls" {
  description = "Keep successful polls and posts out of the stored logs; metrics still count them. A fleet's polls cost as much to log as the database costs."
  type        = bool
  default     = true
  nullable    = false
}

variable "budget" {
  description = <<-EOT
    A monthly budget for this project that warns at 50, 90 and 100 %, and when the month is forecast to exceed it. It stops nothing.
    billing_account: the account's id. amount: in the account's currency, or in currency if given, which must be the account's.
    The provider must be set up with user_project_override = true and billing_project (see examples/full).
  EOT
  type = object({
    billing_account = string
    amount          = number
    currency        = optional(string)
  })
  default = null

  validation {
    condition     = var.budget == null || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.budget.billing_account))
    error_message = "budget.billing_account must be an account id such as 012345-6789AB-CDEF01."
  }

  validation {
    condition     = var.budget == null || try(var.budget.amount >= 1 && floor(var.budget.amount) == var.budget.amount, false)
    error_message = "budget.amount must be a whole number of at least 1."
  }

  validation {
    condition     = try(var.budget.currency, null) == null || can(regex("^[A-Z]{3}$", var.budget.currency))
    error_message = "budget.currency must be a code of three capital letters such as EUR."
  }
}

# What the variables change.

mock_provider "google" {}
mock_provider "time" {}

variables {
  project = "my-project"
  region  = "europe-west1"
}

run "an_existing_database_is_used_as_it_is" {
  command = plan
  variables {
    database = { create = false }
  }

  assert {
    condition     = length(google_firestore_database.database) == 0
    error_message = "It is neither made nor, later, destroyed."
  }

  assert {
    condition     = google_firestore_index.fleet.database == "(default)" && google_firestore_field.fields["archive.expire_at"].database == "(default)"
    error_message = "Its indexes and its TTL are set all the same."
  }
}

run "a_named_database_reaches_the_function" {
  command = plan
  variables {
    database = { name = "solar", location = "eur3", point_in_time_recovery = true, backup_retention_days = 7 }
  }

  assert {
    condition     = google_cloudfunctions2_function.function.service_config[0].environment_variables["NRGKICK_FIRESTORE_DATABASE"] == "solar"
    error_message = "The function is told which database."
  }

  assert {
    condition = (
      google_firestore_database.database[0].location_id == "eur3" &&
      google_firestore_database.database[0].point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_ENABLED" &&
      google_firestore_backup_schedule.daily[0].retention == "604800s"
    )
    error_message = "Place, history and backups are as asked."
  }

  assert {
    condition     = strcontains(google_project_iam_member.function_database.condition[0].expression, "databases/solar")
    error_message = "The function's grant follows the database."
  }
}

run "the_data_goes_with_destroy_only_when_told" {
  command = plan
  variables {
    database = { delete_on_destroy = true }
  }

  assert {
    condition = (
      google_firestore_database.database[0].deletion_policy == "DELETE" &&
      google_firestore_database.database[0].delete_protection_state == "DELETE_PROTECTION_DISABLED"
    )
    error_message = "Both locks are lifted, or the destroy would stop half-way."
  }
}

run "iam_only" {
  command = apply
  variables {
    access       = "iam"
    invokers     = ["serviceAccount:pusher@my-project.iam.gserviceaccount.com", "group:house@example.org"]
    default_site = "home"
  }

  assert {
    condition = (
      keys(google_cloud_run_v2_service_iam_member.invokers)
      == ["group:house@example.org", "serviceAccount:pusher@my-project.iam.gserviceaccount.com"]
    )
    error_message = "Those named may call, and nobody else."
  }

  assert {
    condition     = google_cloudfunctions2_function.function.service_config[0].environment_variables["NRGKICK_DEFAULT_SITE"] == "home"
    error_message = "Behind Google's check a default site is allowed."
  }

  assert {
    condition     = strcontains(output.first_pusher, "gcloud run services proxy nrgkick") && strcontains(output.first_pusher, "http://127.0.0.1:8081")
    error_message = "The pusher goes through Google's own proxy."
  }
}

run "iam_only_for_nobody_yet" {
  command = plan
  variables {
    access = "iam"
  }

  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.invokers) == 0
    error_message = "IAM-only without invokers is closed, not open."
  }
}

run "the_first_key" {
  command = plan

  assert {
    condition     = keys(google_secret_manager_secret_version.signing_key) == ["1"]
    error_message = "One version."
  }

  assert {
    condition     = google_secret_manager_secret_version.signing_key["1"].secret_data == null
    error_message = "The key is not in the plan."
  }
}

run "a_rotated_key_leaves_the_one_before_valid" {
  command = plan
  variables {
    signing_key_generation = 2
  }

  assert {
    condition     = keys(google_secret_manager_secret_version.signing_key) == ["1", "2"]
    error_message = "The old version stays beside the new."
  }

  assert {
    condition = toset([
      for secret in google_cloudfunctions2_function.function.service_config[0].secret_environment_variables : secret.key
    ]) == toset(["NRGKICK_SIGNING_KEY", "NRGKICK_PREVIOUS_SIGNING_KEY"])
    error_message = "The function is given both."
  }
}

run "a_twice_rotated_key_ends_the_first" {
  command = plan
  variables {
    signing_key_generation = 3
  }

  assert {
    condition     = keys(google_secret_manager_secret_version.signing_key) == ["2", "3"]
    error_message = "Two versions at most."
  }
}

run "all_alerts_off" {
  command = plan
  variables {
    alerts = { site_silent_minutes = 0, error_rate = 0, latency_ms = 0 }
  }

  assert {
    condition = length(concat(
      google_monitoring_alert_policy.site_silent,
      google_monitoring_alert_policy.error_rate,
      google_monitoring_alert_policy.latency,
      google_monitoring_notification_channel.email,
    )) == 0
    error_message = "No alert is left."
  }

  assert {
    condition     = length(google_logging_metric.metrics) == 4 && length(google_monitoring_dashboard.dashboard) == 1
    error_message = "Metrics and dashboard are another matter."
  }
}

run "nothing_watched_at_all" {
  command = plan
  variables {
    metrics                  = false
    dashboard                = false
    exclude_successful_polls = false
    alerts                   = { site_silent_minutes = 0, error_rate = 0, latency_ms = 0 }
  }

  assert {
    condition = (
      length(google_logging_metric.metrics) == 0 &&
      length(google_monitoring_dashboard.dashboard) == 0 &&
      length(google_logging_project_exclusion.successful_polls) == 0 &&
      length(time_sleep.metrics) == 0
    )
    error_message = "Each part of the operations is optional."
  }
}

run "every_alert_writes_to_the_address" {
  command = apply
  variables {
    alerts = { email = "me@example.org", site_silent_minutes = 30, error_rate = 0.05, latency_ms = 300 }
    budget = { billing_account = "012345-6789AB-CDEF01", amount = 25, currency = "EUR" }
  }

  assert {
    condition = alltrue([
      for policy in concat(
        google_monitoring_alert_policy.site_silent,
        google_monitoring_alert_policy.error_rate,
        google_monitoring_alert_policy.latency,
      ) : policy.notification_channels == tolist([google_monitoring_notification_channel.email[0].id])
    ])
    error_message = "All three alerts go to the channel."
  }

  assert {
    condition = (
      google_monitoring_alert_policy.site_silent[0].conditions[0].condition_absent[0].duration == "1800s" &&
      google_monitoring_alert_policy.latency[0].conditions[0].condition_threshold[0].threshold_value == 300
    )
    error_message = "Their limits are as asked."
  }

  assert {
    condition = (
      google_billing_budget.budget[0].amount[0].specified_amount[0].units == "25" &&
      length(google_billing_budget.budget[0].threshold_rules) == 4 &&
      length(google_billing_budget.budget[0].all_updates_rule[0].monitoring_notification_channels) == 1 &&
      contains(keys(google_project_service.services), "billingbudgets.googleapis.com")
    )
    error_message = "The budget warns, to the same address, and its API is enabled."
  }
}

run "names_and_labels_reach_everything" {
  command = plan
  variables {
    name   = "solar"
    labels = { team = "energy" }
  }

  assert {
    condition = alltrue([
      for labels in [
        google_artifact_registry_repository.images.labels,
        google_cloudfunctions2_function.function.labels,
        google_secret_manager_secret.signing_key.labels,
        google_storage_bucket.source.labels,
      ] : labels == tomap({ app = "solar", team = "energy" })
    ])
    error_message = "The cost report can be split."
  }

  assert {
    condition = (
      google_storage_bucket.source.name == "my-project-solar-source" &&
      google_secret_manager_secret.signing_key.secret_id == "solar-signing-key" &&
      google_service_account.build.account_id == "solar-build"
    )
    error_message = "Two deployments in one project do not meet."
  }
}

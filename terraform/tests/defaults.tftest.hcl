# Two variables and nothing else: what somebody gets who reads no further than the first screen.

mock_provider "google" {}
mock_provider "time" {}

variables {
  project = "my-project"
  region  = "europe-west1"
}

run "two_variables_are_enough" {
  command = plan

  # The function runs as the design says.
  assert {
    condition = (
      google_cloudfunctions2_function.function.name == "nrgkick" &&
      google_cloudfunctions2_function.function.location == "europe-west1" &&
      google_cloudfunctions2_function.function.build_config[0].entry_point == "nrgkick" &&
      google_cloudfunctions2_function.function.build_config[0].runtime == "python314"
    )
    error_message = "The function is nrgkick, in the region asked for, on the current Python."
  }

  assert {
    condition = (
      google_cloudfunctions2_function.function.service_config[0].available_cpu == "1" &&
      google_cloudfunctions2_function.function.service_config[0].available_memory == "512Mi" &&
      google_cloudfunctions2_function.function.service_config[0].max_instance_request_concurrency == 80 &&
      google_cloudfunctions2_function.function.service_config[0].min_instance_count == 0 &&
      google_cloudfunctions2_function.function.service_config[0].max_instance_count == 10
    )
    error_message = "One CPU, 512 MiB, 80 requests at a time, none to ten instances."
  }

  assert {
    condition = google_cloudfunctions2_function.function.service_config[0].environment_variables == tomap({
      GOOGLE_CLOUD_PROJECT = "my-project"
      NRGKICK_STORE        = "firestore"
    })
    error_message = "No default site, no named database, and no secret among the plain variables."
  }

  assert {
    condition = (
      [for secret in google_cloudfunctions2_function.function.service_config[0].secret_environment_variables : secret.key]
      == ["NRGKICK_SIGNING_KEY"]
    )
    error_message = "A first deployment has one key and no previous one."
  }

  assert {
    condition     = keys(google_cloud_run_v2_service_iam_member.invokers) == ["allUsers"]
    error_message = "Anyone may reach it; the function checks its own tokens."
  }

  # The data is protected.
  assert {
    condition = (
      google_firestore_database.database[0].name == "(default)" &&
      google_firestore_database.database[0].type == "FIRESTORE_NATIVE" &&
      google_firestore_database.database[0].location_id == "europe-west1" &&
      google_firestore_database.database[0].deletion_policy == "ABANDON" &&
      google_firestore_database.database[0].delete_protection_state == "DELETE_PROTECTION_ENABLED"
    )
    error_message = "Destroy leaves the database, and the database refuses to be deleted."
  }

  assert {
    condition     = alltrue([for service in google_project_service.services : service.disable_on_destroy == false])
    error_message = "An API that others may use stays enabled."
  }

  # Only what is queried has an index.
  assert {
    condition = toset([
      for name, field in google_firestore_field.fields : name if length(field.index_config[0].indexes) > 0
    ]) == toset(["archive.start", "sites.minute"])
    error_message = "Payload fields have no index of their own."
  }

  assert {
    condition = toset([
      for name, field in google_firestore_field.fields : name if length(field.ttl_config) > 0
    ]) == toset(["archive.expire_at"])
    error_message = "Old rows expire by themselves, and nothing else does."
  }

  assert {
    condition = (
      [for field in google_firestore_index.fleet.fields : field.field_path]
      == ["minute", "battery_w", "grid_w", "load_w", "pv_w", "smart_load_w"]
    )
    error_message = "The fleet query needs the minute and the five powers in one index."
  }

  # Each identity has no more than its work needs.
  assert {
    condition = toset([
      for grant in [
        google_project_iam_member.function_database,
        google_project_iam_member.function_logs,
        google_secret_manager_secret_iam_member.function_signing_key,
      ] : grant.role
    ]) == toset(["roles/datastore.user", "roles/logging.logWriter", "roles/secretmanager.secretAccessor"])
    error_message = "The function has its database, its log and its one secret."
  }

  assert {
    condition     = strcontains(google_project_iam_member.function_database.condition[0].expression, "projects/my-project/databases/(default)")
    error_message = "And of the project's databases only its own."
  }

  assert {
    condition     = strcontains(google_project_iam_member.build_copied_source.condition[0].expression, "gcf-v2-sources-")
    error_message = "The build reads source archives, not every bucket."
  }

  # The archive holds the code and nothing else.
  assert {
    condition = alltrue([
      for file in data.archive_file.source.source : can(regex("^(main\\.py|requirements\\.txt|(function|schemas)/.*\\.(py|html|css|js|json))$", file.filename))
    ])
    error_message = "Only code, locked requirements and what the code reads."
  }

  assert {
    condition = length(setsubtract(
      ["main.py", "requirements.txt", "function/main.py", "schemas/__init__.py"],
      [for file in data.archive_file.source.source : file.filename],
    )) == 0
    error_message = "The target, where the framework looks, and all that it imports."
  }

  assert {
    condition     = google_storage_bucket_object.source.name == "source-${data.archive_file.source.output_sha256}.zip"
    error_message = "The object is named by its content, or it would never redeploy."
  }

  # Everything is watched.
  assert {
    condition     = toset(keys(google_logging_metric.metrics)) == toset(["accepted", "rejected", "server_errors", "stale_polls"])
    error_message = "Four metrics come from the logs."
  }

  assert {
    condition = (
      google_monitoring_alert_policy.site_silent[0].conditions[0].condition_absent[0].duration == "600s" &&
      google_monitoring_alert_policy.error_rate[0].conditions[0].condition_threshold[0].threshold_value == 0.01 &&
      google_monitoring_alert_policy.latency[0].conditions[0].condition_threshold[0].threshold_value == 1000 &&
      length(google_monitoring_notification_channel.email) == 0
    )
    error_message = "Three alerts, in the console until an e-mail address is given."
  }

  assert {
    condition     = google_monitoring_alert_policy.site_silent[0].conditions[0].condition_absent[0].aggregations[0].group_by_fields == tolist(["metric.label.site"])
    error_message = "A new revision of the function is not a silent site."
  }

  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.dashboard[0].dashboard_json).gridLayout.widgets) == 8
    error_message = "There is a dashboard."
  }

  assert {
    condition     = strcontains(google_logging_project_exclusion.successful_polls[0].filter, "httpRequest.status<400")
    error_message = "Successful polls are not stored."
  }

  assert {
    condition     = length(google_billing_budget.budget) == 0
    error_message = "A budget needs a billing account, which nobody has named."
  }
}

run "the_outputs_say_what_comes_next" {
  command = apply

  assert {
    condition     = output.url == google_cloudfunctions2_function.function.service_config[0].uri
    error_message = "The URL is the function's."
  }

  assert {
    condition     = strcontains(output.first_token, "gcloud secrets versions access") && strcontains(output.first_token, "nrgkick-cloud token")
    error_message = "The first token's command fetches the key and makes the token."
  }

  assert {
    condition     = strcontains(output.first_pusher, output.url) && strcontains(output.first_pusher, "nrgkick-pusher service --install")
    error_message = "The first pusher is pointed at the function."
  }
}

# What is counted, what raises an alarm, what is not kept. The function writes JSON lines with `event` and `site`
# (function/logs.py); Cloud Run writes a line for each request. Metrics see every line, also those that are not stored.
# https://cloud.google.com/logging/docs/logs-based-metrics

locals {
  log_of_function = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.name}\" AND resource.labels.location=\"${var.region}\""
  log_of_requests = "${local.log_of_function} AND logName=\"projects/${var.project}/logs/run.googleapis.com%2Frequests\""

  # A label makes a time series for each of its values, and series are what Google bills: only what somebody would ask
  # of one site has the label.
  metrics = !var.metrics ? {} : {
    accepted = {
      name        = "Accepted readings"
      description = "Posts of readings that were stored, by site; of the live lane at most one a minute and instance."
      filter      = "${local.log_of_function} AND jsonPayload.event=(\"live_stored\" OR \"readings_stored\")"
      by_site     = true
    }
    rejected = {
      name        = "Rejected readings"
      description = "Posts with readings that were refused, by site."
      filter      = "${local.log_of_function} AND jsonPayload.event=\"rejected\""
      by_site     = true
    }
    stale_polls = {
      name        = "Stale polls"
      description = "Polls of the wallbox that were told nothing, for nothing was fresh, by site; at most one a minute and instance."
      filter      = "${local.log_of_function} AND jsonPayload.event=\"stale_poll\""
      by_site     = true
    }
    server_errors = {
      name        = "Server errors"
      description = "Answers 5xx that no contract asks for."
      filter      = "${local.log_of_requests} AND ${local.server_error}"
      by_site     = false
    }
  }

  # The contract's own 500: a method other than GET on the wallbox's documents or on a path that there is not. Its own
  # 503: a wallbox that asks for values or info while nothing is fresh. A store that does not answer shows in the posts.
  wallbox_path = "httpRequest.requestUrl=~\"/api/v1/(values|info)[.]json($|[?])\""
  known_path   = "httpRequest.requestUrl=~\"^https?://[^/]+/((api/v1/(live|readings|whoami|sites|fleet)|sign-in|sign-out|health|openapi[.]json)($|[/?])|$|[?])\""
  server_error = join(" AND ", [
    "httpRequest.status>=500",
    "NOT (httpRequest.status=503 AND ${local.wallbox_path})",
    "NOT (httpRequest.status=500 AND httpRequest.requestMethod!=\"GET\" AND NOT ${local.known_path})",
  ])

  series_of_function = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.name}\""
  channels           = google_monitoring_notification_channel.email[*].id
}

resource "google_logging_metric" "metrics" {
  for_each    = local.metrics
  project     = var.project
  name        = "${var.name}/${each.key}"
  description = each.value.description
  filter      = each.value.filter

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = "${var.name}: ${each.value.name}"

    dynamic "labels" {
      for_each = each.value.by_site ? ["site"] : []
      content {
        key        = labels.value
        value_type = "STRING"
      }
    }
  }

  label_extractors = each.value.by_site ? { site = "EXTRACT(jsonPayload.site)" } : null

  depends_on = [time_sleep.services]
}

# A metric that was just made is not known to alert policies for some minutes: 404.
resource "time_sleep" "metrics" {
  count           = var.metrics ? 1 : 0
  create_duration = "180s"
  triggers        = { metrics = join(",", sort([for metric in google_logging_metric.metrics : metric.name])) }
}

resource "google_logging_project_exclusion" "successful_polls" {
  count       = var.exclude_successful_polls ? 1 : 0
  project     = var.project
  name        = "${var.name}-successful-polls"
  description = "Polls and posts that went well, and the function's line for each accepted live post."
  filter = join(" OR ", [
    join(" AND ", [
      "(${local.log_of_requests}",
      "httpRequest.status<400",
      "httpRequest.requestUrl=~\"/api/v1/(values[.]json|info[.]json|live|readings)($|[?])\")",
    ]),
    "(${local.log_of_function} AND jsonPayload.event=\"live_stored\")",
  ])

  depends_on = [time_sleep.services]
}

resource "google_monitoring_notification_channel" "email" {
  count        = var.alerts.email == null ? 0 : 1
  project      = var.project
  display_name = "${var.name}: e-mail"
  type         = "email"
  labels       = { email_address = var.alerts.email }
  user_labels  = local.labels

  depends_on = [time_sleep.services]
}

resource "google_monitoring_alert_policy" "site_silent" {
  count                 = var.alerts.site_silent_minutes > 0 ? 1 : 0
  project               = var.project
  display_name          = "${var.name}: a site is silent"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels
  user_labels           = local.labels

  conditions {
    display_name = "No readings for ${var.alerts.site_silent_minutes} minutes"
    condition_absent {
      filter   = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.metrics["accepted"].name}\" AND ${local.series_of_function}"
      duration = "${var.alerts.site_silent_minutes * 60}s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
        # By the site alone: each revision of the function writes series of its own, and those end with it.
        group_by_fields = ["metric.label.site"]
      }
    }
  }

  alert_strategy {
    auto_close = "604800s"
  }

  documentation {
    subject = "NRGkick: site $${metric.label.site} is silent"
    content = <<-EOT
      Site $${metric.label.site} has sent nothing for ${var.alerts.site_silent_minutes} minutes; its wallbox is told that nothing is known.
      On the machine beside the devices: `nrgkick-pusher status` says what holds it. No answer: the machine or its network is down.
    EOT
  }

  depends_on = [time_sleep.metrics]
}

resource "google_monitoring_alert_policy" "error_rate" {
  count                 = var.alerts.error_rate > 0 ? 1 : 0
  project               = var.project
  display_name          = "${var.name}: server errors"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels
  user_labels           = local.labels

  conditions {
    display_name = "More than ${var.alerts.error_rate * 100} % of requests fail"
    condition_threshold {
      filter                  = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.metrics["server_errors"].name}\" AND ${local.series_of_function}"
      denominator_filter      = "metric.type=\"run.googleapis.com/request_count\" AND ${local.series_of_function}"
      comparison              = "COMPARISON_GT"
      threshold_value         = var.alerts.error_rate
      duration                = "0s"
      evaluation_missing_data = "EVALUATION_MISSING_DATA_INACTIVE" # no errors, no series
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_RATE"
        cross_series_reducer = "REDUCE_SUM"
      }
      denominator_aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_RATE"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    subject = "NRGkick: server errors"
    content = <<-EOT
      Requests fail by the server's fault. The contract's own answers (500 to a wrong method, 503 to a wallbox while nothing is fresh) are not counted.
      Logs Explorer: `${local.log_of_function} AND severity>=ERROR`. `store_unavailable`: Firestore did not answer. `crash`: a fault of ours, with its traceback.
      After a deployment: README, "Rollback".
    EOT
  }

  depends_on = [time_sleep.metrics]
}

resource "google_monitoring_alert_policy" "latency" {
  count                 = var.alerts.latency_ms > 0 ? 1 : 0
  project               = var.project
  display_name          = "${var.name}: slow answers"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels
  user_labels           = local.labels

  conditions {
    display_name = "95th percentile above ${var.alerts.latency_ms} ms"
    condition_threshold {
      filter          = "metric.type=\"run.googleapis.com/request_latencies\" AND ${local.series_of_function}"
      comparison      = "COMPARISON_GT"
      threshold_value = var.alerts.latency_ms
      duration        = "300s" # one cold start is no alarm
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_PERCENTILE_95"
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    subject = "NRGkick: slow answers"
    content = <<-EOT
      Answers take longer than ${var.alerts.latency_ms} ms. Many instances at their limit: raise max_instances. Mostly cold starts: set min_instances = 1.
    EOT
  }

  depends_on = [time_sleep.services]
}

# ---------------------------------------------------------------- money

data "google_project" "project" {
  count      = var.budget == null ? 0 : 1
  project_id = var.project

  depends_on = [time_sleep.services]
}

resource "google_billing_budget" "budget" {
  count           = var.budget == null ? 0 : 1
  billing_account = var.budget.billing_account
  display_name    = "${var.name} in ${var.project}"

  budget_filter {
    # By number: the API turns an id into one, and the next plan would show a change.
    projects = ["projects/${data.google_project.project[0].number}"]
  }

  amount {
    specified_amount {
      units         = tostring(var.budget.amount)
      currency_code = var.budget.currency
    }
  }

  dynamic "threshold_rules" {
    for_each = [[0.5, "CURRENT_SPEND"], [0.9, "CURRENT_SPEND"], [1, "CURRENT_SPEND"], [1, "FORECASTED_SPEND"]]
    content {
      threshold_percent = threshold_rules.value[0]
      spend_basis       = threshold_rules.value[1]
    }
  }

  # The billing account's administrators hear of it in any case.
  dynamic "all_updates_rule" {
    for_each = length(local.channels) > 0 ? [1] : []
    content {
      monitoring_notification_channels = local.channels
    }
  }
}

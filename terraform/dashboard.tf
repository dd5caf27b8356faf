# One page that answers: are the houses heard of, are the wallboxes told something, what does it cost.

locals {
  own = "logging.googleapis.com/user/${var.name}"
  run = "run.googleapis.com"
  charts = [
    { title = "Sites heard of", metric = "${local.own}/accepted", reducer = "REDUCE_SUM", by = "site", then = "REDUCE_COUNT" },
    { title = "Accepted readings a minute", metric = "${local.own}/accepted", reducer = "REDUCE_SUM" },
    { title = "Rejected readings, by site", metric = "${local.own}/rejected", reducer = "REDUCE_SUM", by = "site" },
    { title = "Wallboxes told nothing, by site", metric = "${local.own}/stale_polls", reducer = "REDUCE_SUM", by = "site" },
    { title = "Server errors a minute", metric = "${local.own}/server_errors", reducer = "REDUCE_SUM" },
    { title = "Requests a second, by status", metric = "${local.run}/request_count", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = "response_code_class" },
    { title = "Latency, 95th percentile (ms)", metric = "${local.run}/request_latencies", reducer = "REDUCE_PERCENTILE_95" },
    { title = "Instances", metric = "${local.run}/container/instance_count", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = "state" },
  ]
}

resource "google_monitoring_dashboard" "dashboard" {
  count   = var.dashboard ? 1 : 0
  project = var.project

  dashboard_json = jsonencode({
    displayName = "${var.name}: houses and wallboxes"
    gridLayout = {
      columns = "2"
      widgets = [
        for chart in local.charts : {
          title = chart.title
          xyChart = {
            dataSets = [{
              plotType       = "LINE"
              targetAxis     = "Y1"
              legendTemplate = can(chart.by) ? "$${metric.labels.${chart.by}}" : chart.title
              timeSeriesQuery = {
                timeSeriesFilter = merge(
                  {
                    filter = "metric.type=\"${chart.metric}\" AND ${local.series_of_function}"
                    aggregation = {
                      alignmentPeriod    = "60s"
                      perSeriesAligner   = try(chart.aligner, "ALIGN_DELTA")
                      crossSeriesReducer = chart.reducer
                      groupByFields      = can(chart.by) ? ["metric.label.${chart.by}"] : []
                    }
                  },
                  !can(chart.then) ? {} : {
                    secondaryAggregation = {
                      alignmentPeriod    = "60s"
                      perSeriesAligner   = "ALIGN_MEAN"
                      crossSeriesReducer = chart.then
                    }
                  },
                )
              }
            }]
          }
        }
      ]
    }
  })

  depends_on = [time_sleep.metrics]
}

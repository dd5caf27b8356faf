# Every validation refuses what it should, at once and not after minutes of Google's. A run breaks many variables in one
# plan, each in one way; each must be refused by its own name.

mock_provider "google" {}
mock_provider "time" {}

variables {
  project = "my-project"
  region  = "europe-west1"
}

run "refuses_names_that_are_none" {
  command = plan
  variables {
    project                = "My Project"
    region                 = "europe-west1-b" # a zone
    name                   = "nrg"
    labels                 = { Team = "energy" }
    runtime                = "python310"
    access                 = "private"
    signing_key_generation = 0
    database               = { name = "db" }
    alerts                 = { email = "me" }
    budget                 = { billing_account = "mine", amount = 5 }
  }
  expect_failures = [
    var.project, var.region, var.name, var.labels, var.runtime, var.access, var.signing_key_generation, var.database,
    var.alerts, var.budget,
  ]
}

run "refuses_what_is_called_alike" {
  command = plan
  variables {
    project                = "123456789012" # a project's number
    region                 = "eur3"         # a multi-region: the database may lie in one, the function may not
    name                   = "nrgkick-of-the-neighbourhood"
    labels                 = { team = "Energy & Sun" }
    access                 = "iam"
    invokers               = ["allUsers"]
    default_site           = "My Home"
    signing_key_generation = 1.5
    database               = { location = "Europe" }
    alerts                 = { error_rate = 5 } # per cent
    budget                 = { billing_account = "012345-6789AB-CDEF01", amount = 5, currency = "euro" }
  }
  expect_failures = [
    var.project, var.region, var.name, var.labels, var.invokers, var.default_site, var.signing_key_generation,
    var.database, var.alerts, var.budget,
  ]
}

run "refuses_numbers_out_of_range" {
  command = plan
  variables {
    min_instances = -1
    database      = { backup_retention_days = 365 }
    alerts        = { site_silent_minutes = 2880 } # Google watches 23.5 hours at most
    budget        = { billing_account = "012345-6789AB-CDEF01", amount = 0 }
  }
  expect_failures = [var.min_instances, var.database, var.alerts, var.budget]
}

run "refuses_fractions_and_trifles" {
  command = plan
  variables {
    min_instances = 0.5
    alerts        = { site_silent_minutes = 1 }
    budget        = { billing_account = "012345-6789AB-CDEF01", amount = 2.5 }
  }
  expect_failures = [var.min_instances, var.alerts, var.budget]
}

run "refuses_to_show_a_house_to_the_world" {
  command = plan
  variables {
    access       = "public"
    default_site = "home"
    invokers     = ["user:me@example.org"] # of a function that everybody may call
  }
  expect_failures = [var.default_site, var.invokers]
}

run "refuses_no_instance_at_all" {
  command = plan
  variables {
    max_instances = 0
  }
  expect_failures = [var.max_instances]
}

run "refuses_fewer_instances_than_the_least" {
  command = plan
  variables {
    min_instances = 5
    max_instances = 2
  }
  expect_failures = [var.max_instances]
}

run "refuses_to_shape_a_database_that_it_does_not_make" {
  command = plan
  variables {
    database = { create = false, location = "eur3" }
  }
  expect_failures = [var.database]
}

run "refuses_to_delete_a_database_that_it_did_not_make" {
  command = plan
  variables {
    database = { create = false, delete_on_destroy = true }
  }
  expect_failures = [var.database]
}

run "refuses_alerts_and_a_dashboard_without_the_metrics_that_they_show" {
  command = plan
  variables {
    metrics = false
  }
  expect_failures = [var.alerts, var.dashboard]
}

run "refuses_a_negative_latency" {
  command = plan
  variables {
    alerts = { latency_ms = -1 }
  }
  expect_failures = [var.alerts]
}

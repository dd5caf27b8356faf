# Firestore: the database, and which fields have an index. An index entry that nobody queries is paid for at each write,
# so every field that the function writes is named here, once, with the index that a query of ours needs or with none.

locals {
  # Collection, field, and the order of its one index, or null for none. The tests hold this against what the function
  # writes. Composite indexes do not need a field's own index, so the powers have none.
  firestore_fields = {
    sites = {
      doc          = null        # the site as JSON text
      minute       = "ASCENDING" # of the last hearing; the fleet query counts by it. A minute, so that it moves seldom
      pv_w         = null
      grid_w       = null
      battery_w    = null
      load_w       = null
      smart_load_w = null
    }
    archive = {
      expire_at = null # TTL, which needs no index
      pusher    = null
      rows      = null        # and all below it, for an exemption of a map holds for its keys
      start     = "ASCENDING" # history asks for a range of quarter hours of one site
    }
    days = {
      due    = null
      totals = null
    }
  }
  firestore_ttl = { archive = "expire_at" }

  # The fleet query sums these over the sites heard of in the last two minutes. A query with several sums looks only at
  # documents that have all the fields, and is served by one index of exactly the filtered and the summed ones.
  # https://firebase.google.com/docs/firestore/query-data/aggregation-queries
  fleet_filter = "minute"
  fleet_sums   = ["battery_w", "grid_w", "load_w", "pv_w", "smart_load_w"]

  database_location = coalesce(var.database.location, var.region)
  # Through the resource where there is one, so that everything in the database waits for it.
  database_name = var.database.create ? one(google_firestore_database.database[*].name) : var.database.name
}

resource "google_firestore_database" "database" {
  count       = var.database.create ? 1 : 0
  project     = var.project
  name        = var.database.name
  location_id = local.database_location
  type        = "FIRESTORE_NATIVE"

  point_in_time_recovery_enablement = (
    var.database.point_in_time_recovery ? "POINT_IN_TIME_RECOVERY_ENABLED" : "POINT_IN_TIME_RECOVERY_DISABLED"
  )

  # Said aloud, for the provider's default says nothing: destroy leaves the database where it is, protected, unless told.
  # An apply after such a destroy then needs database.create = false, or Google answers 409.
  deletion_policy         = var.database.delete_on_destroy ? "DELETE" : "ABANDON"
  delete_protection_state = var.database.delete_on_destroy ? "DELETE_PROTECTION_DISABLED" : "DELETE_PROTECTION_ENABLED"

  depends_on = [time_sleep.services]
}

# One resource a field: Google has a wildcard for a whole collection, but the provider cannot set it.
# https://github.com/hashicorp/terraform-provider-google/issues/19598
resource "google_firestore_field" "fields" {
  for_each = merge([
    for collection, fields in local.firestore_fields : {
      for field, order in fields : "${collection}.${field}" => { collection = collection, field = field, order = order }
    }
  ]...)
  project    = var.project
  database   = local.database_name
  collection = each.value.collection
  field      = each.value.field

  # An empty index_config takes away all of a field's own indexes.
  index_config {
    dynamic "indexes" {
      for_each = each.value.order == null ? [] : [each.value.order]
      content {
        order       = indexes.value
        query_scope = "COLLECTION"
      }
    }
  }

  dynamic "ttl_config" {
    for_each = lookup(local.firestore_ttl, each.value.collection, null) == each.value.field ? [1] : []
    content {}
  }

  depends_on = [time_sleep.services]
}

resource "google_firestore_index" "fleet" {
  project     = var.project
  database    = local.database_name
  collection  = "sites"
  query_scope = "COLLECTION"

  dynamic "fields" {
    for_each = concat([local.fleet_filter], local.fleet_sums)
    content {
      field_path = fields.value
      order      = "ASCENDING"
    }
  }

  depends_on = [time_sleep.services]
}

resource "google_firestore_backup_schedule" "daily" {
  count     = var.database.backup_retention_days > 0 ? 1 : 0
  project   = var.project
  database  = local.database_name
  retention = "${var.database.backup_retention_days * 86400}s"

  daily_recurrence {}

  depends_on = [time_sleep.services]
}

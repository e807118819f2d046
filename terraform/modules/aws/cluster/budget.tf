# Of the whole account: a budget for tags would need them to be activated for billing first, by hand, a day before.
resource "aws_budgets_budget" "this" {
  name         = var.name
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_unit   = "USD"
  limit_amount = tostring(var.monthly_budget.usd)

  notification {
    comparison_operator        = "GREATER_THAN"
    notification_type          = "ACTUAL"
    threshold_type             = "PERCENTAGE"
    threshold                  = 80
    subscriber_email_addresses = var.monthly_budget.emails
  }

  notification {
    comparison_operator        = "GREATER_THAN"
    notification_type          = "FORECASTED"
    threshold_type             = "PERCENTAGE"
    threshold                  = 100
    subscriber_email_addresses = var.monthly_budget.emails
  }
}

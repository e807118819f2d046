output "queue" {
  description = "URL of the queue that the watcher reads."
  value       = aws_sqs_queue.events.url
}

output "queue_arn" {
  description = "ARN of the queue, for the watcher's role."
  value       = aws_sqs_queue.events.arn
}

output "dead_letter_queue" {
  description = "URL of the queue that keeps what the watcher could not use, until two weeks after it came."
  value       = aws_sqs_queue.dead.url
}

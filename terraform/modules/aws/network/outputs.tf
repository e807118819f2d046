output "vpc_id" {
  description = "The VPC, for peerings and endpoints of your own."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "One subnet for each zone, without public addresses: where the nodes are."
  value       = [for zone in var.zones : aws_subnet.private[zone].id]
}

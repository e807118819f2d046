output "vpc_id" {
  description = "The VPC, for peerings and endpoints of your own."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "One subnet for each zone, without public addresses: where the nodes are."
  value       = [for zone in var.zones : aws_subnet.private[zone].id]

  # Nodes that start without a way to the APIs, or lose it before they end, fail.
  depends_on = [
    aws_route.private, aws_route.public, aws_route_table_association.private, aws_route_table_association.public,
    aws_vpc_endpoint.interface, aws_vpc_endpoint.s3, aws_vpc_security_group_ingress_rule.endpoints,
  ]
}

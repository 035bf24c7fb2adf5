"""What a person's browser talks to: Label Studio, the pre-annotation service, its sync."""

"""What stands around one model on one machine: fleets, queues, networks, failures, data and money."""

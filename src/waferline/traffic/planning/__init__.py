"""What to deploy: formats, machines and degrees enumerated, ranked in closed form, and the finalists simulated."""

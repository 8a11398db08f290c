"""The slice-context study: arms, cells, schedule, registration and verdict."""

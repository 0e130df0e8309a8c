"""A Docker engine of one's own, and stand-ins for the images of `docker-compose.yml`."""

"""Hosting: the broker as a server of its own, with settings and hardening."""

"""Migration: many runs into many targets, from one config file."""

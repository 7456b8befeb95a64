"""Many runs from one config file: what it says, as data that workers can be sent."""

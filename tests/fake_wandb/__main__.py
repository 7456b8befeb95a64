"""`python -m tests.fake_wandb`: run the server until it is terminated."""

from tests.fake_wandb.server import main

main()

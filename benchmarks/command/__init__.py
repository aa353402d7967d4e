"""What a command of the suite stands on: the checkout that it measures, its scratch folder, and how it ends."""

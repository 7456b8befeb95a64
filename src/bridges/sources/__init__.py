"""Sources read runs from files, directories and logs. They do not depend on targets."""

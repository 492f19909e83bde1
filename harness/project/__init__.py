"""The gate of a user's repository: written from the package alone, extended and updated."""

"""What commands do with a configuration and a store, without serving."""

"""Who is calling, where that takes more than a look into the snapshot: tokens and the keys that sign them."""

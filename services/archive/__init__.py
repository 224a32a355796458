"""Commands on the store: `kurs import`, `kurs export`, `kurs verify`, `kurs dead`."""

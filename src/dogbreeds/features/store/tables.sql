-- AUTOINCREMENT: a number must never come to mean another array or file.
CREATE TABLE arrays (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, layout TEXT NOT NULL, UNIQUE (key, layout)
);
CREATE TABLE segments (
    id INTEGER PRIMARY KEY AUTOINCREMENT, array INTEGER NOT NULL, file TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
    used REAL NOT NULL
);
CREATE TABLE rows (
    array INTEGER NOT NULL, photo BLOB NOT NULL, segment INTEGER NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY (array, photo)
) WITHOUT ROWID;
CREATE INDEX rows_of_segment ON rows (segment);
CREATE TABLE claims (
    array INTEGER NOT NULL, photo BLOB NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (array, photo)
) WITHOUT ROWID;
CREATE TABLE files (path BLOB PRIMARY KEY, state TEXT NOT NULL, photo BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE unreadable (photo BLOB PRIMARY KEY, decoder TEXT NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;

-- A ledger as version 1 of the schema had it: sqlite3 ledger.db .dump
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE meta (
	name  TEXT PRIMARY KEY,      -- instance, starts
	value
) WITHOUT ROWID;
INSERT INTO meta VALUES('instance','4f6f9b82-66df-427c-8d9c-d7e661b0e7f6');
INSERT INTO meta VALUES('starts',1);
CREATE TABLE grants (
	legion      TEXT PRIMARY KEY,
	term        INTEGER NOT NULL,
	holder      TEXT NOT NULL,   -- node
	instance    TEXT NOT NULL, -- of the holder: its state directory
	incarnation TEXT NOT NULL,   -- of the holder
	lease_ns    INTEGER NOT NULL,
	released    INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO grants VALUES('db',7,'n1','x','y',2000000000,0);
CREATE TABLE blobs (
	kind  TEXT NOT NULL,         -- electorate, founding, value
	name  TEXT NOT NULL,         -- of the value; else empty
	value BLOB NOT NULL,
	PRIMARY KEY (kind, name)
) WITHOUT ROWID;
INSERT INTO blobs VALUES('electorate','',X'65');
INSERT INTO blobs VALUES('value','x',X'31');
CREATE TABLE marks (
	legion TEXT NOT NULL,        -- empty: a job of one node
	node   TEXT NOT NULL,        -- empty: a job of a legion
	job    TEXT NOT NULL,
	timing TEXT NOT NULL,
	at     INTEGER,              -- ms since 1970, as all times
	term   INTEGER NOT NULL,
	PRIMARY KEY (legion, node, job)
) WITHOUT ROWID;
INSERT INTO marks VALUES('db','','backup','0123',1772330400000,7);
CREATE TABLE runs (
	id          INTEGER PRIMARY KEY,
	slot        TEXT NOT NULL,
	legion      TEXT NOT NULL,   -- empty: a job of one node
	attempt     INTEGER NOT NULL,
	run         TEXT NOT NULL,   -- empty: the slot has no run
	job         TEXT NOT NULL,
	at          INTEGER NOT NULL,-- what history is ordered by: the slot's time
	state       TEXT NOT NULL,
	rank        INTEGER NOT NULL,-- of the state; below 5 the run is unsettled
	term        INTEGER NOT NULL,
	node        TEXT NOT NULL,   -- executes it
	incarnation TEXT NOT NULL,
	definition  TEXT NOT NULL,
	reason      TEXT NOT NULL,
	scheduled   INTEGER,
	started     INTEGER,
	ended       INTEGER,
	exit_code   INTEGER NOT NULL,
	signal      TEXT NOT NULL,
	manual      INTEGER NOT NULL,
	until       INTEGER,         -- of many slots in a row: the last
	count       INTEGER NOT NULL,
	UNIQUE (slot, legion, attempt, run)
);
INSERT INTO runs VALUES(1,'db/backup@2026-03-01T02:00:00Z','db',1,'backup-0','backup',1772330400000,'succeeded',6,7,'n1','inc','0123456789abcdef','',1772330400000,1772330401000,1772330402000,0,'',0,NULL,0);
INSERT INTO runs VALUES(2,'db/backup@2026-03-01T02:40:00Z','db',1,'backup-40','backup',1772332800000,'failed',6,7,'n1','inc','0123456789abcdef','',1772332800000,1772332801000,1772332802000,0,'',0,NULL,0);
INSERT INTO runs VALUES(3,'db/backup@2026-03-01T03:20:00Z','db',1,'backup-80','backup',1772335200000,'lost',5,7,'n1','inc','0123456789abcdef','',1772335200000,1772335201000,1772335202000,0,'',0,NULL,0);
INSERT INTO runs VALUES(4,'db/backup@2026-03-01T04:00:00Z','db',1,'backup-120','backup',1772337600000,'running',4,7,'n1','inc','0123456789abcdef','',1772337600000,1772337601000,NULL,0,'',0,NULL,0);
INSERT INTO runs VALUES(5,'db/backup@2026-03-01T04:40:00Z','db',1,'backup-160','backup',1772340000000,'claimed',2,7,'n1','inc','0123456789abcdef','',1772340000000,1772340001000,NULL,0,'',0,NULL,0);
INSERT INTO runs VALUES(6,'db/backup@2026-03-01T05:20:00Z','db',1,'backup-200','backup',1772342400000,'succeeded',6,7,'n1','inc','0123456789abcdef','',1772342400000,1772342401000,1772342402000,0,'',0,NULL,0);
INSERT INTO runs VALUES(7,'db/backup@manual-0195a2d4-2b1c-7a9e-8f00-00000000beef','db',1,'by-hand','backup',1772330490000,'killed',6,0,'','','','',1772330490000,NULL,NULL,-1,'TERM',1,NULL,0);
INSERT INTO runs VALUES(8,'n1/rotate@2026-03-01T02:00:00Z','',0,'','rotate',1772330400000,'skipped',6,0,'n1','','','overlap',1772330400000,NULL,NULL,0,'',0,NULL,0);
CREATE INDEX runs_by_job    ON runs (job, at);
CREATE INDEX runs_by_time   ON runs (at);
CREATE INDEX runs_by_id     ON runs (run) WHERE run <> '';
CREATE INDEX runs_unsettled ON runs (rank) WHERE rank < 5;
CREATE VIEW history AS SELECT
	job, legion, slot, attempt, run, state, reason, node, term,
	strftime('%Y-%m-%dT%H:%M:%fZ', scheduled / 1000.0, 'unixepoch') AS scheduled,
	strftime('%Y-%m-%dT%H:%M:%fZ', started / 1000.0, 'unixepoch') AS started,
	strftime('%Y-%m-%dT%H:%M:%fZ', ended / 1000.0, 'unixepoch') AS ended,
	(ended - started) / 1000.0 AS seconds,
	exit_code, signal, manual, count,
	strftime('%Y-%m-%dT%H:%M:%fZ', until / 1000.0, 'unixepoch') AS until
FROM runs ORDER BY at DESC, id DESC;
COMMIT;
PRAGMA user_version = 1;

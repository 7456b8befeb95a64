BEGIN TRANSACTION;
CREATE TABLE configs (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        run_name TEXT NOT NULL,
                        config TEXT NOT NULL,
                        created_at TEXT NOT NULL,
                        UNIQUE(run_name)
                    );
INSERT INTO "configs" VALUES(1,'live',X'7B226C72223A302E312C226C6179657273223A5B312C325D2C225F557365726E616D65223A6E756C6C2C225F43726561746564223A22323032362D31322D30315430303A32333A33382E3636303739382B30303A3030222C225F47726F7570223A6E756C6C7D','2026-12-01T00:23:39.211170+00:00');
INSERT INTO "configs" VALUES(2,'other',X'7B225F557365726E616D65223A6E756C6C2C225F43726561746564223A22323032362D31322D30315430303A32333A33392E3232303132362B30303A3030222C225F47726F7570223A6E756C6C7D','2026-12-01T00:23:39.740795+00:00');
CREATE TABLE metrics (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        timestamp TEXT NOT NULL,
                        run_name TEXT NOT NULL,
                        step INTEGER NOT NULL,
                        metrics TEXT NOT NULL
                    , log_id TEXT, space_id TEXT);
INSERT INTO "metrics" VALUES(1,'2026-12-01T00:23:39.168640+00:00','live',0,X'7B226C6F7373223A312E302C22626967223A393030373139393235343734303939332C226E616E223A224E614E227D','a19a11afc60846fd9c559876ff345657',NULL);
INSERT INTO "metrics" VALUES(2,'2026-12-01T00:23:39.168640+00:00','live',1,X'7B226C6F7373223A302E352C22626967223A393030373139393235343734303939332C226E616E223A224E614E227D','79a4678853f54856b7c3354681a6f969',NULL);
INSERT INTO "metrics" VALUES(3,'2026-12-01T00:23:39.168640+00:00','live',2,X'7B226C6F7373223A302E333333333333333333333333333333332C22626967223A393030373139393235343734303939332C226E616E223A224E614E227D','548459b8d7914b5eaca7e223e1ed7371',NULL);
INSERT INTO "metrics" VALUES(4,'2026-12-01T00:23:39.168640+00:00','live',3,X'7B226C6F7373223A302E32352C22626967223A393030373139393235343734303939332C226E616E223A224E614E227D','f41009cd4c914ee4be66c84486322e11',NULL);
INSERT INTO "metrics" VALUES(5,'2026-12-01T00:23:39.168640+00:00','live',4,X'7B226C6F7373223A302E322C22626967223A393030373139393235343734303939332C226E616E223A224E614E227D','98cd368b96044f3b832e1163f2f07cfb',NULL);
INSERT INTO "metrics" VALUES(6,'2026-12-01T00:23:39.739870+00:00','other',7,X'7B226C6F7373223A322E307D','9c44848cf30e4461a7d198d5f6885c4c',NULL);
CREATE TABLE pending_uploads (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        space_id TEXT NOT NULL,
                        run_name TEXT,
                        step INTEGER,
                        file_path TEXT NOT NULL,
                        relative_path TEXT,
                        created_at TEXT NOT NULL
                    );
CREATE TABLE project_metadata (
                        key TEXT PRIMARY KEY,
                        value TEXT NOT NULL
                    );
CREATE TABLE system_metrics (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        timestamp TEXT NOT NULL,
                        run_name TEXT NOT NULL,
                        metrics TEXT NOT NULL
                    , log_id TEXT, space_id TEXT);
CREATE INDEX idx_metrics_run_step
                    ON metrics(run_name, step)
                    ;
CREATE INDEX idx_configs_run_name
                    ON configs(run_name)
                    ;
CREATE INDEX idx_metrics_run_timestamp
                    ON metrics(run_name, timestamp)
                    ;
CREATE INDEX idx_system_metrics_run_timestamp
                    ON system_metrics(run_name, timestamp)
                    ;
CREATE UNIQUE INDEX idx_metrics_log_id
                        ON metrics(log_id) WHERE log_id IS NOT NULL;
CREATE INDEX idx_metrics_pending
                        ON metrics(space_id) WHERE space_id IS NOT NULL;
CREATE UNIQUE INDEX idx_system_metrics_log_id
                        ON system_metrics(log_id) WHERE log_id IS NOT NULL;
CREATE INDEX idx_system_metrics_pending
                        ON system_metrics(space_id) WHERE space_id IS NOT NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('metrics',6);
INSERT INTO "sqlite_sequence" VALUES('configs',2);
COMMIT;
PRAGMA user_version = 0;

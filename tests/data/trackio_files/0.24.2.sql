BEGIN TRANSACTION;
CREATE TABLE alerts (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        run_id TEXT NOT NULL,
                        timestamp TEXT NOT NULL,
                        run_name TEXT NOT NULL,
                        title TEXT NOT NULL,
                        text TEXT,
                        level TEXT NOT NULL DEFAULT 'warn',
                        step INTEGER,
                        alert_id TEXT
                    );
CREATE TABLE configs (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        run_id TEXT NOT NULL,
                        run_name TEXT NOT NULL,
                        config TEXT NOT NULL,
                        created_at TEXT NOT NULL,
                        UNIQUE(run_id)
                    );
INSERT INTO "configs" VALUES(1,'d6bfe96361a64d1cb4891230f5324c7b','live',X'7B226C72223A302E312C226C6179657273223A5B312C325D2C225F557365726E616D65223A6E756C6C2C225F43726561746564223A22323032362D31322D30315430303A32353A32322E3635393336302B30303A3030222C225F47726F7570223A6E756C6C7D','2026-12-01T00:25:22.893394+00:00');
INSERT INTO "configs" VALUES(2,'8d52f8dfa7de494abfe961a7241486f4','other',X'7B225F557365726E616D65223A6E756C6C2C225F43726561746564223A22323032362D31322D30315430303A32353A32332E3031383638372B30303A3030222C225F47726F7570223A6E756C6C7D','2026-12-01T00:25:23.055480+00:00');
CREATE TABLE metrics (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        run_id TEXT NOT NULL,
                        timestamp TEXT NOT NULL,
                        run_name TEXT NOT NULL,
                        step INTEGER NOT NULL,
                        metrics TEXT NOT NULL
                    , log_id TEXT, space_id TEXT);
INSERT INTO "metrics" VALUES(1,'d6bfe96361a64d1cb4891230f5324c7b','2026-12-01T00:25:22.728349+00:00','live',0,X'7B226C6F7373223A312E302C22626967223A393030373139393235343734303939332C226E616E223A224E614E227D','d1524b9a8c764b189b41cb425ebb5b0e',NULL);
INSERT INTO "metrics" VALUES(2,'d6bfe96361a64d1cb4891230f5324c7b','2026-12-01T00:25:22.728349+00:00','live',1,X'7B226C6F7373223A302E352C22626967223A393030373139393235343734303939332C226E616E223A224E614E227D','7740af79502d422780a6977458a25b5c',NULL);
INSERT INTO "metrics" VALUES(3,'d6bfe96361a64d1cb4891230f5324c7b','2026-12-01T00:25:22.728349+00:00','live',2,X'7B226C6F7373223A302E333333333333333333333333333333332C22626967223A393030373139393235343734303939332C226E616E223A224E614E227D','8fc1e7b099614771ab8d3225efe72498',NULL);
INSERT INTO "metrics" VALUES(4,'d6bfe96361a64d1cb4891230f5324c7b','2026-12-01T00:25:22.728349+00:00','live',3,X'7B226C6F7373223A302E32352C22626967223A393030373139393235343734303939332C226E616E223A224E614E227D','209e9fd4e51d407f8b088fbe799c6dd2',NULL);
INSERT INTO "metrics" VALUES(5,'d6bfe96361a64d1cb4891230f5324c7b','2026-12-01T00:25:22.728349+00:00','live',4,X'7B226C6F7373223A302E322C22626967223A393030373139393235343734303939332C226E616E223A224E614E227D','19ed70709a4c47abaf1f579c4feab7ca',NULL);
INSERT INTO "metrics" VALUES(6,'8d52f8dfa7de494abfe961a7241486f4','2026-12-01T00:25:23.054359+00:00','other',7,X'7B226C6F7373223A322E307D','ca6a29c2c55f4611a83f62f3445d8f1b',NULL);
CREATE TABLE pending_uploads (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        space_id TEXT NOT NULL,
                        run_id TEXT,
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
                        run_id TEXT NOT NULL,
                        timestamp TEXT NOT NULL,
                        run_name TEXT NOT NULL,
                        metrics TEXT NOT NULL
                    , log_id TEXT, space_id TEXT);
CREATE INDEX idx_metrics_run_step
                    ON metrics(run_id, step)
                    ;
CREATE INDEX idx_metrics_run_timestamp
                    ON metrics(run_id, timestamp)
                    ;
CREATE INDEX idx_configs_run_name
                    ON configs(run_name)
                    ;
CREATE INDEX idx_system_metrics_run_timestamp
                    ON system_metrics(run_id, timestamp)
                    ;
CREATE INDEX idx_alerts_run
                    ON alerts(run_id)
                    ;
CREATE INDEX idx_alerts_timestamp
                    ON alerts(timestamp)
                    ;
CREATE UNIQUE INDEX idx_alerts_alert_id
                    ON alerts(alert_id) WHERE alert_id IS NOT NULL
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

BEGIN TRANSACTION;
CREATE TABLE alerts (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
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
                        run_name TEXT NOT NULL,
                        config TEXT NOT NULL,
                        created_at TEXT NOT NULL,
                        UNIQUE(run_name)
                    );
INSERT INTO "configs" VALUES(1,'live',X'7B226C72223A302E312C226C6179657273223A5B312C325D2C225F557365726E616D65223A6E756C6C2C225F43726561746564223A22323032362D31322D30315430303A32343A30332E3430383939372B30303A3030222C225F47726F7570223A6E756C6C7D','2026-12-01T00:24:03.448252+00:00');
INSERT INTO "configs" VALUES(2,'other',X'7B225F557365726E616D65223A6E756C6C2C225F43726561746564223A22323032362D31322D30315430303A32343A30332E3435353136322B30303A3030222C225F47726F7570223A6E756C6C7D','2026-12-01T00:24:03.459605+00:00');
CREATE TABLE metrics (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        timestamp TEXT NOT NULL,
                        run_name TEXT NOT NULL,
                        step INTEGER NOT NULL,
                        metrics TEXT NOT NULL
                    , log_id TEXT, space_id TEXT);
INSERT INTO "metrics" VALUES(1,'2026-12-01T00:24:03.418325+00:00','live',0,X'7B226C6F7373223A312E302C22626967223A393030373139393235343734303939332C226E616E223A224E614E227D','3ed1f09fca414247a4750fa302f91435',NULL);
INSERT INTO "metrics" VALUES(2,'2026-12-01T00:24:03.418325+00:00','live',1,X'7B226C6F7373223A302E352C22626967223A393030373139393235343734303939332C226E616E223A224E614E227D','3d332349bfd84660b39d9ca3d2710847',NULL);
INSERT INTO "metrics" VALUES(3,'2026-12-01T00:24:03.418325+00:00','live',2,X'7B226C6F7373223A302E333333333333333333333333333333332C22626967223A393030373139393235343734303939332C226E616E223A224E614E227D','f06e201f7baf49d18e0011c038150abd',NULL);
INSERT INTO "metrics" VALUES(4,'2026-12-01T00:24:03.418325+00:00','live',3,X'7B226C6F7373223A302E32352C22626967223A393030373139393235343734303939332C226E616E223A224E614E227D','f8b7373ffd2a44eb8493e268f83fd436',NULL);
INSERT INTO "metrics" VALUES(5,'2026-12-01T00:24:03.418325+00:00','live',4,X'7B226C6F7373223A302E322C22626967223A393030373139393235343734303939332C226E616E223A224E614E227D','cc95cf2166ca47dda595ef200a82fcbe',NULL);
INSERT INTO "metrics" VALUES(6,'2026-12-01T00:24:03.455883+00:00','other',7,X'7B226C6F7373223A322E307D','9aa6f6d33a3d4bc6ba8a29a7de53b0f1',NULL);
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
CREATE INDEX idx_alerts_run
                    ON alerts(run_name)
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

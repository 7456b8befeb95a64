-- mlflow 3.3: alembic revision 1a0cddfcaa16
-- written by mlflow 3.3.2 with tests/golden/make_mlflow_schemas.py
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO alembic_version VALUES ('1a0cddfcaa16');
CREATE TABLE experiments (
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	artifact_location VARCHAR(256), 
	lifecycle_stage VARCHAR(32), creation_time BIGINT, last_update_time BIGINT, 
	CONSTRAINT experiment_pk PRIMARY KEY (experiment_id), 
	CONSTRAINT experiments_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	UNIQUE (name)
);
INSERT INTO experiments VALUES (0, 'Default', '/artifacts/0', 'active', 0, 0);
INSERT INTO experiments VALUES (1, 'bridges', '/artifacts/1', 'active', 0, 0);
CREATE TABLE experiment_tags (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	experiment_id INTEGER NOT NULL, 
	CONSTRAINT experiment_tag_pk PRIMARY KEY ("key", experiment_id), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
);
INSERT INTO experiment_tags VALUES ('mlflow.experimentKind', 'custom_model_development', 1);
CREATE TABLE "runs" (
	run_uuid VARCHAR(32) NOT NULL, 
	name VARCHAR(250), 
	source_type VARCHAR(20), 
	source_name VARCHAR(500), 
	entry_point_name VARCHAR(50), 
	user_id VARCHAR(256), 
	status VARCHAR(9), 
	start_time BIGINT, 
	end_time BIGINT, 
	source_version VARCHAR(50), 
	lifecycle_stage VARCHAR(20), 
	artifact_uri VARCHAR(200), 
	experiment_id INTEGER, deleted_time BIGINT, 
	CONSTRAINT run_pk PRIMARY KEY (run_uuid), 
	CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
INSERT INTO runs VALUES ('ffffffffffffffffffffffffffffffff', 'golden run', 'UNKNOWN', '', '', 'someone', 'FINISHED', 1700000000000, 1700086400000, '', 'active', '/artifacts/1/ffffffffffffffffffffffffffffffff/artifacts', 1, NULL);
CREATE TABLE "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
CREATE INDEX index_params_run_uuid ON params (run_uuid);
INSERT INTO params VALUES ('learning_rate', '5e-05', 'ffffffffffffffffffffffffffffffff');
INSERT INTO params VALUES ('model/größe.x y', 'it''s 学習', 'ffffffffffffffffffffffffffffffff');
INSERT INTO params VALUES ('empty', '', 'ffffffffffffffffffffffffffffffff');
INSERT INTO params VALUES ('long', '012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789', 'ffffffffffffffffffffffffffffffff');
CREATE TABLE "tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
CREATE INDEX index_tags_run_uuid ON tags (run_uuid);
INSERT INTO tags VALUES ('mlflow.user', 'someone', 'ffffffffffffffffffffffffffffffff');
INSERT INTO tags VALUES ('mlflow.source.name', 'trainer_state.json', 'ffffffffffffffffffffffffffffffff');
INSERT INTO tags VALUES ('bridges.key', 'a/b', 'ffffffffffffffffffffffffffffffff');
INSERT INTO tags VALUES ('mlflow.runName', 'golden run', 'ffffffffffffffffffffffffffffffff');
INSERT INTO tags VALUES ('note/größe.学習 top-5_x', 'it''s "quoted"
and has a line break', 'ffffffffffffffffffffffffffffffff');
INSERT INTO tags VALUES ('empty', '', 'ffffffffffffffffffffffffffffffff');
CREATE TABLE "metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	step BIGINT DEFAULT '0' NOT NULL, 
	is_nan BOOLEAN DEFAULT '0' NOT NULL, 
	CONSTRAINT metric_pk PRIMARY KEY ("key", timestamp, step, run_uuid, value, is_nan), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
INSERT INTO metrics VALUES ('loss', 2.718281828459045, 1700000000000, 'ffffffffffffffffffffffffffffffff', 0, 0);
INSERT INTO metrics VALUES ('loss', 0.1, 1700000000001, 'ffffffffffffffffffffffffffffffff', 1, 0);
INSERT INTO metrics VALUES ('loss', 0.3333333333333333, 1700000000002, 'ffffffffffffffffffffffffffffffff', 2, 0);
INSERT INTO metrics VALUES ('loss', 1e-07, 1700000000003, 'ffffffffffffffffffffffffffffffff', 3, 0);
INSERT INTO metrics VALUES ('loss', 123456.789, 1700000000004, 'ffffffffffffffffffffffffffffffff', 4, 0);
INSERT INTO metrics VALUES ('count', 0.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', 0, 0);
INSERT INTO metrics VALUES ('count', -7.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', 1, 0);
INSERT INTO metrics VALUES ('count', 9007199254740992.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', 2, 0);
INSERT INTO metrics VALUES ('odd', 0.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', 0, 1);
INSERT INTO metrics VALUES ('odd', 1.7976931348623157e+308, 1700000000000, 'ffffffffffffffffffffffffffffffff', 1, 0);
INSERT INTO metrics VALUES ('odd', -1.7976931348623157e+308, 1700000000000, 'ffffffffffffffffffffffffffffffff', 2, 0);
INSERT INTO metrics VALUES ('odd', 5e-324, 1700000000000, 'ffffffffffffffffffffffffffffffff', 3, 0);
INSERT INTO metrics VALUES ('odd', 1.7976931348623157e+308, 1700000000000, 'ffffffffffffffffffffffffffffffff', 4, 0);
INSERT INTO metrics VALUES ('odd', 0.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', 5, 0);
INSERT INTO metrics VALUES ('eval/größe.学習 top-5_x', 0.5, 1700000000000, 'ffffffffffffffffffffffffffffffff', 0, 0);
INSERT INTO metrics VALUES ('nan last', 0.5, 1700000000000, 'ffffffffffffffffffffffffffffffff', 1, 0);
INSERT INTO metrics VALUES ('nan last', 0.0, 1700000000001, 'ffffffffffffffffffffffffffffffff', 2, 1);
INSERT INTO metrics VALUES ('nan and more', 0.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', 7, 1);
INSERT INTO metrics VALUES ('nan and more', 2.5, 1700000000000, 'ffffffffffffffffffffffffffffffff', 7, 0);
INSERT INTO metrics VALUES ('nan and less', -2.5, 1700000000000, 'ffffffffffffffffffffffffffffffff', 7, 0);
INSERT INTO metrics VALUES ('nan and less', 0.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', 7, 1);
INSERT INTO metrics VALUES ('zero then nan', 0.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', 7, 0);
INSERT INTO metrics VALUES ('zero then nan', 0.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', 7, 1);
INSERT INTO metrics VALUES ('nan then zero', 0.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', 7, 1);
INSERT INTO metrics VALUES ('nan then zero', 0.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', 7, 0);
INSERT INTO metrics VALUES ('same step', 1.0, 1700000000009, 'ffffffffffffffffffffffffffffffff', 5, 0);
INSERT INTO metrics VALUES ('same step', 2.0, 1700000000001, 'ffffffffffffffffffffffffffffffff', 5, 0);
INSERT INTO metrics VALUES ('same step and time', 3.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', 5, 0);
INSERT INTO metrics VALUES ('same step and time', 1.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', 5, 0);
INSERT INTO metrics VALUES ('negative steps', 1.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', -5, 0);
INSERT INTO metrics VALUES ('negative steps', 2.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', -1, 0);
INSERT INTO metrics VALUES ('negative steps', 3.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', -4611686018427387904, 0);
INSERT INTO metrics VALUES ('out of order', 30.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', 30, 0);
INSERT INTO metrics VALUES ('out of order', 10.0, 1700000000050, 'ffffffffffffffffffffffffffffffff', 10, 0);
INSERT INTO metrics VALUES ('out of order', 20.0, 1700000000020, 'ffffffffffffffffffffffffffffffff', 20, 0);
INSERT INTO metrics VALUES ('time zero', 1.0, 0, 'ffffffffffffffffffffffffffffffff', 0, 0);
INSERT INTO metrics VALUES ('eval:acc', 0.25, 1700000000000, 'ffffffffffffffffffffffffffffffff', 0, 0);
INSERT INTO metrics VALUES ('loss', 0.7, 1700000000005, 'ffffffffffffffffffffffffffffffff', 3, 0);
INSERT INTO metrics VALUES ('out of order', 40.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', 40, 0);
INSERT INTO metrics VALUES ('nan and less', -1.0, 1700000000000, 'ffffffffffffffffffffffffffffffff', 7, 0);
INSERT INTO metrics VALUES ('nan and more', 2.75, 1700000000000, 'ffffffffffffffffffffffffffffffff', 7, 0);
INSERT INTO metrics VALUES ('nan last', 0.25, 1700000000005, 'ffffffffffffffffffffffffffffffff', 1, 0);
CREATE TABLE "latest_metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT, 
	step BIGINT NOT NULL, 
	is_nan BOOLEAN NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT latest_metric_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
CREATE INDEX index_latest_metrics_run_uuid ON latest_metrics (run_uuid);
INSERT INTO latest_metrics VALUES ('loss', 123456.789, 1700000000004, 4, 0, 'ffffffffffffffffffffffffffffffff');
INSERT INTO latest_metrics VALUES ('count', 9007199254740992.0, 1700000000000, 2, 0, 'ffffffffffffffffffffffffffffffff');
INSERT INTO latest_metrics VALUES ('odd', 0.0, 1700000000000, 5, 0, 'ffffffffffffffffffffffffffffffff');
INSERT INTO latest_metrics VALUES ('eval/größe.学習 top-5_x', 0.5, 1700000000000, 0, 0, 'ffffffffffffffffffffffffffffffff');
INSERT INTO latest_metrics VALUES ('nan last', 0.0, 1700000000001, 2, 1, 'ffffffffffffffffffffffffffffffff');
INSERT INTO latest_metrics VALUES ('nan and more', 2.75, 1700000000000, 7, 0, 'ffffffffffffffffffffffffffffffff');
INSERT INTO latest_metrics VALUES ('nan and less', 0.0, 1700000000000, 7, 1, 'ffffffffffffffffffffffffffffffff');
INSERT INTO latest_metrics VALUES ('zero then nan', 0.0, 1700000000000, 7, 0, 'ffffffffffffffffffffffffffffffff');
INSERT INTO latest_metrics VALUES ('nan then zero', 0.0, 1700000000000, 7, 1, 'ffffffffffffffffffffffffffffffff');
INSERT INTO latest_metrics VALUES ('same step', 1.0, 1700000000009, 5, 0, 'ffffffffffffffffffffffffffffffff');
INSERT INTO latest_metrics VALUES ('same step and time', 3.0, 1700000000000, 5, 0, 'ffffffffffffffffffffffffffffffff');
INSERT INTO latest_metrics VALUES ('negative steps', 2.0, 1700000000000, -1, 0, 'ffffffffffffffffffffffffffffffff');
INSERT INTO latest_metrics VALUES ('out of order', 40.0, 1700000000000, 40, 0, 'ffffffffffffffffffffffffffffffff');
INSERT INTO latest_metrics VALUES ('time zero', 1.0, 0, 0, 0, 'ffffffffffffffffffffffffffffffff');
INSERT INTO latest_metrics VALUES ('eval:acc', 0.25, 1700000000000, 0, 0, 'ffffffffffffffffffffffffffffffff');

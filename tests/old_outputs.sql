-- The run store of an outputs folder that a daemon left behind when it was killed: SQLite's dump of it, with the folder
-- as {outputs}. Written by the code before the first release (tables of version 0002, Prefect 3.8.8, SQLAlchemy 2.0).
-- Two dates are done, a third is so by a rerun, one run failed, and one was still going on.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE runs (
	id INTEGER NOT NULL, 
	workflow TEXT NOT NULL, 
	parameters_hash VARCHAR(64) NOT NULL, 
	parameters TEXT NOT NULL, 
	reference_date DATE NOT NULL, 
	attempt INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	holder TEXT NOT NULL, 
	started_at DATETIME NOT NULL, 
	heartbeat_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	error_notebook TEXT, 
	error_cell INTEGER, 
	error_class TEXT, 
	error_message TEXT, 
	outputs TEXT, 
	flow_run_id VARCHAR(36), forgiven_at DATETIME, pruned_at DATETIME, 
	PRIMARY KEY (id)
);
INSERT INTO "runs" VALUES(1,'flows','4d512a21d0cf38a09c108ddbf9a053750bd255c447adeab8edfe439bd03cf7e3','{"unit":"admin2"}','2016-01-10',1,'superseded','host pid 20613 4073aa5b','2024-05-02 19:59:56.696209','2024-05-02 19:59:57.443889','2024-05-02 19:59:57.443889',NULL,NULL,NULL,NULL,'{"counts": {"notebook": "{outputs}/notebooks/flows__counts__2016-01-10__4d512a21__20240502T195956.702Z.ipynb", "reports": ["{outputs}/reports/flows__counts__2016-01-10__4d512a21__20240502T195956.702Z.html"]}}','b47de632-91df-45eb-bb39-d3086aebcd4b',NULL,NULL);
INSERT INTO "runs" VALUES(2,'flows','4d512a21d0cf38a09c108ddbf9a053750bd255c447adeab8edfe439bd03cf7e3','{"unit":"admin2"}','2016-01-11',1,'succeeded','host pid 20613 4073aa5b','2024-05-02 19:59:56.698511','2024-05-02 19:59:57.465057','2024-05-02 19:59:57.465057',NULL,NULL,NULL,NULL,'{"counts": {"notebook": "{outputs}/notebooks/flows__counts__2016-01-11__4d512a21__20240502T195956.705Z.ipynb", "reports": ["{outputs}/reports/flows__counts__2016-01-11__4d512a21__20240502T195956.705Z.html"]}}','a39a7d52-1c4f-410a-a286-f585d7a3a393',NULL,NULL);
INSERT INTO "runs" VALUES(3,'checks','44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a','{}','2016-01-11',1,'failed','host pid 20613 4073aa5b','2024-05-02 19:59:57.556960','2024-05-02 19:59:58.190623','2024-05-02 19:59:58.190623','check',3,'ZeroDivisionError','division by zero','{"check": {"notebook": "{outputs}/notebooks/checks__check__2016-01-11__44136fa3__20240502T195957.560Z.ipynb", "reports": []}}','d27e4c5d-5fc7-4de2-86ab-ad56975878a4',NULL,NULL);
INSERT INTO "runs" VALUES(4,'flows','4d512a21d0cf38a09c108ddbf9a053750bd255c447adeab8edfe439bd03cf7e3','{"unit":"admin2"}','2016-01-12',1,'succeeded','host pid 20613 4073aa5b','2024-05-02 19:59:57.579809','2024-05-02 19:59:57.894658','2024-05-02 19:59:57.894658',NULL,NULL,NULL,NULL,'{"counts": {"notebook": "{outputs}/notebooks/flows__counts__2016-01-12__4d512a21__20240502T195957.582Z.ipynb", "reports": ["{outputs}/reports/flows__counts__2016-01-12__4d512a21__20240502T195957.582Z.html"]}}','88835d55-b2ec-4a11-92ac-aa02bfcc1931',NULL,NULL);
INSERT INTO "runs" VALUES(5,'checks','44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a','{}','2016-01-12',1,'running','host pid 20613 4073aa5b','2024-05-02 19:59:57.920799','2024-05-02 19:59:57.920799',NULL,NULL,NULL,NULL,NULL,NULL,'555c4fc3-df2b-4098-8228-a283d6c409cb',NULL,NULL);
INSERT INTO "runs" VALUES(6,'flows','4d512a21d0cf38a09c108ddbf9a053750bd255c447adeab8edfe439bd03cf7e3','{"unit":"admin2"}','2016-01-10',2,'succeeded','host pid 21594 0cc99a4d','2024-05-02 20:00:10.258606','2024-05-02 20:00:11.392962','2024-05-02 20:00:11.392962',NULL,NULL,NULL,NULL,'{"counts": {"notebook": "{outputs}/notebooks/flows__counts__2016-01-10__4d512a21__20240502T200010.276Z.ipynb", "reports": ["{outputs}/reports/flows__counts__2016-01-10__4d512a21__20240502T200010.276Z.html"]}}','8e02e466-3f28-4dda-b48f-d40d977e2e4c',NULL,NULL);
CREATE UNIQUE INDEX one_claim_per_date ON runs (workflow, parameters_hash, reference_date) WHERE state IN ('running', 'succeeded');
CREATE INDEX runs_by_state ON runs (state);
CREATE UNIQUE INDEX one_rerun_per_date ON runs (workflow, parameters_hash, reference_date) WHERE state = 'rerunning';
COMMIT;

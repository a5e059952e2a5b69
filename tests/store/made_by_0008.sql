BEGIN TRANSACTION;
CREATE TABLE tape_alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT tape_alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "tape_alembic_version" VALUES('0008');
CREATE TABLE tape_callbacks (
	callback_key VARCHAR(64) NOT NULL, 
	effect_key VARCHAR(64) NOT NULL, 
	event VARCHAR(24) NOT NULL, 
	signature_json TEXT NOT NULL, 
	status VARCHAR(24) NOT NULL, 
	sweep_at_ms BIGINT, 
	created_at_ms BIGINT NOT NULL, 
	updated_at_ms BIGINT NOT NULL, 
	PRIMARY KEY (callback_key), 
	CONSTRAINT tape_callbacks_status_is_known CHECK (status IN ('WAITING', 'DUE', 'SENT', 'DROPPED')), 
	CONSTRAINT tape_callbacks_due_is_swept CHECK (status <> 'DUE' OR sweep_at_ms IS NOT NULL), 
	CONSTRAINT tape_callbacks_effect FOREIGN KEY(effect_key) REFERENCES tape_effects (effect_key)
);
INSERT INTO "tape_callbacks" VALUES('7c7b5f84-9e50-5279-876b-c77cd91a0540','01a21c33-5ec1-7524-a107-54fe08ac1074','confirmed','{"args":[],"immutable":true,"kwargs":{},"options":{},"subtask_type":null,"task":"before.heard"}','SENT',NULL,1804409458376,1804409458416);
INSERT INTO "tape_callbacks" VALUES('cc00d8a8-57a8-5126-a5e3-a7eee0e6d463','01a21c33-5f0f-7d2b-b488-2a7e324c632d','stuck','{"args":[],"immutable":true,"kwargs":{},"options":{},"subtask_type":null,"task":"before.heard"}','WAITING',NULL,1804409458449,1804409458449);
INSERT INTO "tape_callbacks" VALUES('92f1e36c-5b47-527f-883a-30b649128a5f','01a21c33-5f70-77e8-a1d5-89c62397b7ce','confirmed','{"args":[],"immutable":true,"kwargs":{},"options":{},"subtask_type":null,"task":"before.heard"}','WAITING',NULL,1804409458546,1804409458546);
CREATE TABLE tape_effects (
	effect_key VARCHAR(64) NOT NULL, 
	connector VARCHAR(200) NOT NULL, 
	effect_name VARCHAR(200) NOT NULL, 
	semantics VARCHAR(24) NOT NULL, 
	status VARCHAR(24) NOT NULL, 
	reason TEXT NOT NULL, 
	idempotency_key VARCHAR(200) NOT NULL, 
	business_key VARCHAR(200) NOT NULL, 
	held_business_key VARCHAR(200), 
	run_id VARCHAR(200) NOT NULL, 
	request_json TEXT NOT NULL, 
	request_digest VARCHAR(64) NOT NULL, 
	response_json TEXT NOT NULL, 
	error_json TEXT NOT NULL, 
	external_ref VARCHAR(512) NOT NULL, 
	attempt INTEGER NOT NULL, 
	max_attempts INTEGER NOT NULL, 
	unsent INTEGER NOT NULL, 
	looks INTEGER NOT NULL, 
	watches INTEGER NOT NULL, 
	dispatch_token INTEGER NOT NULL, 
	token INTEGER NOT NULL, 
	claim_nonce VARCHAR(64) NOT NULL, 
	claimed_at_ms BIGINT, 
	lease_until_ms BIGINT, 
	may_have_landed BOOLEAN NOT NULL, 
	might_before BOOLEAN NOT NULL, 
	landed BOOLEAN NOT NULL, 
	landed_ref VARCHAR(512) NOT NULL, 
	cancel_requested BOOLEAN NOT NULL, 
	absent BOOLEAN NOT NULL, 
	due_at_ms BIGINT, 
	sweep_at_ms BIGINT, 
	expires_at_ms BIGINT, 
	settled_at_ms BIGINT, 
	first_sent_at_ms BIGINT, 
	ended_at_ms BIGINT, 
	created_at_ms BIGINT NOT NULL, 
	updated_at_ms BIGINT NOT NULL, 
	version INTEGER NOT NULL, priority INTEGER DEFAULT '0' NOT NULL, ordering_key VARCHAR(200) DEFAULT '' NOT NULL, order_number BIGINT DEFAULT '0' NOT NULL, reissue_of VARCHAR(64) DEFAULT '' NOT NULL, reissued_as VARCHAR(64) DEFAULT '' NOT NULL, similar_digest VARCHAR(64) DEFAULT '' NOT NULL, shared BOOLEAN DEFAULT 0 NOT NULL, traceparent VARCHAR(55) DEFAULT '' NOT NULL, dispatch_traceparent VARCHAR(55) DEFAULT '' NOT NULL, 
	PRIMARY KEY (effect_key), 
	CONSTRAINT tape_effects_semantics_is_known CHECK (semantics IN ('non_idempotent', 'idempotent', 'observe_only')), 
	CONSTRAINT tape_effects_dispatching_is_leased CHECK (status <> 'DISPATCHING' OR (lease_until_ms IS NOT NULL AND claim_nonce <> '')), 
	CONSTRAINT tape_effects_stuck_says_why CHECK (status <> 'STUCK' OR reason <> ''), 
	CONSTRAINT tape_effects_unsettled_is_swept CHECK (status IN ('CONFIRMED', 'FAILED', 'CANCELLED', 'STUCK', 'HELD') OR sweep_at_ms IS NOT NULL), 
	CONSTRAINT tape_effects_status_is_known CHECK (status IN ('PENDING', 'DISPATCHING', 'CONFIRMED', 'FAILED', 'UNKNOWN', 'STUCK', 'CANCELLED', 'HELD')), 
	CONSTRAINT tape_effects_ended_holds_no_key CHECK (status NOT IN ('FAILED', 'CANCELLED') OR held_business_key IS NULL), 
	CONSTRAINT tape_effects_attempts_are_bounded CHECK (attempt >= 0 AND attempt <= max_attempts), 
	CONSTRAINT tape_effects_one_live_per_business_key UNIQUE (connector, held_business_key), 
	CONSTRAINT tape_effects_one_per_idempotency_key UNIQUE (idempotency_key)
);
INSERT INTO "tape_effects" VALUES('01a21c33-5ec1-7524-a107-54fe08ac1074','bank.wire','','non_idempotent','CONFIRMED','','01a21c33-5ec1-7524-a107-54fe08ac1074','confirmed','confirmed','01a21c33-5ec1-7524-a107-54fe08ac1074','{"amount":7,"what":"confirmed"}','05cef7500d6bf7d5c568daacd7e6920a932993de71465b2900ec7443dcf63da2','','','bank.wire-2',1,5,0,0,0,1,1,'',1804409458387,NULL,0,0,0,'',0,0,NULL,NULL,NULL,1804409458396,1804409458387,1804409458396,1804409458375,1804409458396,3,0,'',0,'','','',0,'','');
INSERT INTO "tape_effects" VALUES('01a21c33-5ef1-773e-8602-a86cdb0598f1','bank.wire','','non_idempotent','FAILED','refused','01a21c33-5ef1-773e-8602-a86cdb0598f1','failed',NULL,'01a21c33-5ef1-773e-8602-a86cdb0598f1','{"amount":7,"what":"failed"}','2d48fb9f2bf1be7cc44b545281fa0b9e74cf94947ab4c29c8c1aa7d2ea4c466f','','{"reason":"refused"}','',1,5,0,0,0,1,1,'',1804409458424,NULL,0,0,0,'',0,0,NULL,NULL,NULL,1804409458436,1804409458424,1804409458436,1804409458417,1804409458436,3,0,'',0,'','','',0,'','');
INSERT INTO "tape_effects" VALUES('01a21c33-5f0f-7d2b-b488-2a7e324c632d','bank.wire','','non_idempotent','UNKNOWN','AnswerLost: bank.wire: the answer was lost (lose_ack)','01a21c33-5f0f-7d2b-b488-2a7e324c632d','unknown','unknown','01a21c33-5f0f-7d2b-b488-2a7e324c632d','{"amount":7,"what":"unknown"}','7d911ea32aa51c073b89e93258e7f33748246fb8a13185638ea991e7fc8a8a1c','','{"type":"tape_celery.testing.scripted.AnswerLost","message":"bank.wire: the answer was lost (lose_ack)"}','',1,5,0,0,0,1,1,'',1804409458457,NULL,1,0,0,'',0,0,1804409458460,1804409458460,NULL,1804409458460,1804409458457,NULL,1804409458447,1804409458460,3,0,'',0,'','','',0,'','');
INSERT INTO "tape_effects" VALUES('01a21c33-5f27-7619-b200-c07c5e35a5d2','bank.wire','','non_idempotent','STUCK','no answer after 1 looks','01a21c33-5f27-7619-b200-c07c5e35a5d2','stuck','stuck','01a21c33-5f27-7619-b200-c07c5e35a5d2','{"amount":7,"what":"stuck"}','b823496173d25509744ff5d177bbdf61ef493f1ce4eee1bcadc6b32f34465b82','','{"type":"tape_celery.testing.scripted.AnswerLost","message":"bank.wire: the answer was lost (lose_ack)"}','',1,5,0,1,0,1,2,'',1804409458498,NULL,1,0,0,'',0,0,NULL,NULL,NULL,1804409458487,1804409458480,NULL,1804409458472,1804409458506,5,0,'',0,'','','',0,'','');
INSERT INTO "tape_effects" VALUES('01a21c33-5f4e-786f-b861-fe567ad1796a','bank.wire','','non_idempotent','CANCELLED','asked for by the customer','01a21c33-5f4e-786f-b861-fe567ad1796a','cancelled',NULL,'01a21c33-5f4e-786f-b861-fe567ad1796a','{"amount":7,"what":"cancelled"}','f8dc9310ad64cee9a64a684711be35617eb6861c46da17f9ceb9fc417b6c2171','','','',0,5,0,0,0,0,0,'',NULL,NULL,0,0,0,'',1,0,NULL,NULL,NULL,NULL,NULL,1804409458521,1804409458511,1804409458521,2,0,'',0,'','','',0,'','');
INSERT INTO "tape_effects" VALUES('01a21c33-5f60-7fae-a494-7d4ca1ae84e1','bank.wire','','non_idempotent','PENDING','','01a21c33-5f60-7fae-a494-7d4ca1ae84e1','held','held','01a21c33-5f60-7fae-a494-7d4ca1ae84e1','{"amount":7,"what":"held"}','2c70d00a1c1d750894fbf2b2e638d96c416170b479a3d8245d0be430ff7c5d51','','','',0,5,0,0,0,0,0,'',NULL,NULL,0,0,0,'',0,0,1804409458527,1804409463527,NULL,NULL,NULL,NULL,1804409458527,1804409458527,1,0,'',0,'','','fb6632bd6651ff35747457d7d6aab3f5d91ff8521f5a79f7382c412da5ef081b',0,'','');
INSERT INTO "tape_effects" VALUES('01a21c33-5f6b-710c-a5aa-f69b303d2ebc','bank.wire','','non_idempotent','HELD','looks like effect 01a21c33-5f60-7fae-a494-7d4ca1ae84e1, recorded 0.012 s before','01a21c33-5f6b-710c-a5aa-f69b303d2ebc','held too','held too','01a21c33-5f6b-710c-a5aa-f69b303d2ebc','{"amount":7,"what":"held too"}','979b70ec850814cac58b4020facdc8ba8d362ec361a2b9efdae6fa77c3b7c36d','','','',0,5,0,0,0,0,0,'',NULL,NULL,0,0,0,'',0,0,1804409458539,NULL,NULL,NULL,NULL,NULL,1804409458539,1804409458539,1,0,'',0,'','','fb6632bd6651ff35747457d7d6aab3f5d91ff8521f5a79f7382c412da5ef081b',0,'','');
INSERT INTO "tape_effects" VALUES('01a21c33-5f70-77e8-a1d5-89c62397b7ce','bank.wire','','non_idempotent','PENDING','','01a21c33-5f70-77e8-a1d5-89c62397b7ce','pending','pending','01a21c33-5f70-77e8-a1d5-89c62397b7ce','{"amount":7,"what":"pending"}','6a2e5b93b76383ae3aad6f199da7347c4aee080e08e708f1ef6bc7ffb43d54eb','','','',0,5,0,0,0,0,0,'',NULL,NULL,0,0,0,'',0,0,1804409458545,1804409463545,NULL,NULL,NULL,NULL,1804409458545,1804409458545,1,0,'',0,'','','',0,'','');
INSERT INTO "tape_effects" VALUES('01a21c33-5f77-71e8-a0de-45e450b86b22','bank.wire','','non_idempotent','CONFIRMED','','01a21c33-5f77-71e8-a0de-45e450b86b22','duplicate','duplicate','01a21c33-5f77-71e8-a0de-45e450b86b22','{"amount":7,"what":"duplicate"}','64cd7c6dfbb442493402bf002a2b476bc8ff1d08f76fd81e5651159c835d0109','{"duplicates":["bank.wire-6"]}','','bank.wire-5',1,5,0,1,0,1,2,'',1804409458563,NULL,1,0,0,'',0,0,NULL,NULL,NULL,1804409458560,1804409458555,1804409458569,1804409458552,1804409458569,5,0,'',0,'','','',0,'','');
INSERT INTO "tape_effects" VALUES('01a21c33-5f99-7d78-9af0-05d2fb2f9810','bank.wire','','non_idempotent','CONFIRMED','','01a21c33-5f99-7d78-9af0-05d2fb2f9810','owed, unknown','owed, unknown','01a21c33-5f99-7d78-9af0-05d2fb2f9810','{"amount":7,"what":"owed, unknown"}','535e1306d7742bde1a20b2e27f4e2fb262ef6fd597bb3e0f35a98037e9cf82d3','','','bank.wire-7',1,5,0,0,0,1,1,'',1804409458592,NULL,0,0,0,'',0,0,NULL,NULL,NULL,1804409458596,1804409458592,1804409458596,1804409458585,1804409458599,4,0,'',0,'','','',0,'','');
INSERT INTO "tape_effects" VALUES('01a21c33-602a-7ae3-baca-801943c26dea','bank.wire','','non_idempotent','CONFIRMED','','01a21c33-602a-7ae3-baca-801943c26dea','owed, stuck','owed, stuck','01a21c33-602a-7ae3-baca-801943c26dea','{"amount":7,"what":"owed, stuck"}','f5af1d738a7fed964692736926b207109abd401cf34bcef782dcdecf08462aa2','','','bank.wire-8',1,5,0,0,0,1,1,'',1804409458744,NULL,0,0,0,'',0,0,NULL,NULL,NULL,1804409458752,1804409458744,1804409458752,1804409458730,1804409458756,4,0,'',0,'','','',0,'','');
INSERT INTO "tape_effects" VALUES('01a21c33-605a-724f-bfb5-a5ccc572d8e1','bank.wire','','non_idempotent','CONFIRMED','','01a21c33-605a-724f-bfb5-a5ccc572d8e1','first of a run','first of a run','order','{"amount":7,"what":"first of a run"}','4f1d3688971b91dd8675e35178ef4b29ab76fc3029afe81c9dca6f01dbf392a3','','','bank.wire-9',1,5,0,0,0,1,1,'',1804409458784,NULL,0,0,0,'',0,0,NULL,NULL,NULL,1804409458791,1804409458784,1804409458791,1804409458778,1804409458852,4,0,'',0,'','','',0,'','');
INSERT INTO "tape_effects" VALUES('01a21c33-606b-7eae-b18a-a7b11d59db74','bank.wire','','non_idempotent','CONFIRMED','','01a21c33-606b-7eae-b18a-a7b11d59db74','second of a run','second of a run','order','{"amount":7,"what":"second of a run"}','c638090d1b9ed20a4bf48ba1c8a873154078363b418abbcc2c4bea236b20320c','','','bank.wire-10',1,5,0,0,0,1,1,'',1804409458801,NULL,0,0,0,'',0,0,NULL,NULL,NULL,1804409458803,1804409458801,1804409458803,1804409458796,1804409458817,4,0,'',0,'','','',0,'','');
INSERT INTO "tape_effects" VALUES('01a21c33-60c9-7d36-98b4-c9ed7bd69d29','bank.wire','','non_idempotent','DISPATCHING','','01a21c33-60c9-7d36-98b4-c9ed7bd69d29','dispatching','dispatching','01a21c33-60c9-7d36-98b4-c9ed7bd69d29','{"amount":7,"what":"dispatching"}','3eae2618aa2708fbe634a686720b6bf09913468a63238aad51b71b48d6aa2fd7','','','',1,5,0,0,0,1,1,'501eef02e3744993875bd208d8e2606c',1804409458914,1804409488914,0,0,0,'',0,0,1804409458890,1804409488914,NULL,NULL,1804409458914,NULL,1804409458890,1804409458914,2,0,'',0,'','','',0,'','');
INSERT INTO "tape_effects" VALUES('01a21c33-60cb-707a-8ed2-cef62a290ccc','bank.wire','','non_idempotent','CONFIRMED','','01a21c33-60cb-707a-8ed2-cef62a290ccc','owed, compensating','owed, compensating','01a21c33-60cb-707a-8ed2-cef62a290ccc','{"amount":7,"what":"owed, compensating"}','8d7410185afab3189be99fc4a39ceb711c03697d5567512d2aac482a134094c5','','','bank.wire-11',1,5,0,0,0,1,1,'',1804409458897,NULL,0,0,0,'',0,0,NULL,NULL,NULL,1804409458898,1804409458897,1804409458898,1804409458893,1804409458902,4,0,'',0,'','','',0,'','');
CREATE TABLE tape_flows (
	connector VARCHAR(200) NOT NULL, 
	verb VARCHAR(8) NOT NULL, 
	paused BOOLEAN NOT NULL, 
	controlled BOOLEAN NOT NULL, 
	at_once INTEGER NOT NULL, 
	rate_count INTEGER NOT NULL, 
	rate_ms BIGINT NOT NULL, 
	trouble_percent INTEGER NOT NULL, 
	least_calls INTEGER NOT NULL, 
	window_ms BIGINT NOT NULL, 
	open_ms BIGINT NOT NULL, 
	full_at_us BIGINT NOT NULL, 
	breaker VARCHAR(24) NOT NULL, 
	breaker_at_ms BIGINT NOT NULL, 
	probe_key VARCHAR(64) NOT NULL, 
	window_at_ms BIGINT NOT NULL, 
	calls INTEGER NOT NULL, 
	unknown_calls INTEGER NOT NULL, 
	failed_calls INTEGER NOT NULL, 
	reason TEXT NOT NULL, 
	actor VARCHAR(200) NOT NULL, 
	updated_at_ms BIGINT NOT NULL, 
	version INTEGER NOT NULL, 
	PRIMARY KEY (connector, verb), 
	CONSTRAINT tape_flows_verb_is_known CHECK (verb IN ('call', 'look')), 
	CONSTRAINT tape_flows_breaker_is_known CHECK (breaker IN ('CLOSED', 'OPEN', 'HALF_OPEN'))
);
INSERT INTO "tape_flows" VALUES('bank.other','call',1,0,0,0,0,0,0,0,0,0,'CLOSED',0,'',0,0,0,0,'asked for by the customer','human:ann',1804409458885,1);
CREATE TABLE tape_installation (
	id INTEGER NOT NULL, 
	installation_id VARCHAR(64) NOT NULL, 
	created_at_ms BIGINT NOT NULL, swept_at_ms BIGINT, 
	PRIMARY KEY (id), 
	CONSTRAINT tape_installation_is_one_row CHECK (id = 1)
);
INSERT INTO "tape_installation" VALUES(1,'01a21c33-5e2e-7671-979a-7f28432b2875',1795769458223,NULL);
CREATE TABLE tape_journal (
	"key" VARCHAR(64) NOT NULL, 
	seq INTEGER NOT NULL, 
	effect_key VARCHAR(64) NOT NULL, 
	at_ms BIGINT NOT NULL, 
	kind VARCHAR(24) NOT NULL, 
	from_status VARCHAR(24) NOT NULL, 
	status VARCHAR(24) NOT NULL, 
	token INTEGER NOT NULL, 
	actor VARCHAR(200) NOT NULL, 
	evidence_json TEXT NOT NULL, digest VARCHAR(64) DEFAULT '' NOT NULL, 
	PRIMARY KEY ("key", seq), 
	CONSTRAINT tape_journal_starts_at_one CHECK (seq >= 1)
);
INSERT INTO "tape_journal" VALUES('01a21c33-5ec1-7524-a107-54fe08ac1074',1,'01a21c33-5ec1-7524-a107-54fe08ac1074',1804409458375,'recorded','','PENDING',0,'vm:12642','{"event":"Recorded","request_digest":"05cef7500d6bf7d5c568daacd7e6920a932993de71465b2900ec7443dcf63da2","semantics":"non_idempotent","max_attempts":5,"due_at_ms":1804409458375,"expires_at_ms":null}','71c72dae29903330676966a4766200e33cc56c731c09fc48ba83b0a3fdbcae37');
INSERT INTO "tape_journal" VALUES('01a21c33-5ec1-7524-a107-54fe08ac1074',2,'01a21c33-5ec1-7524-a107-54fe08ac1074',1804409458387,'claimed','PENDING','DISPATCHING',1,'vm:12642','{"event":"Claimed","nonce":"7ddd3b7dcbcf47f69be8d076e2da0b3f","verb":"call","lease_ms":30000}','4821d5da1214f35f123f8b11b4cf8a03b3b5b77f13144d3821bf96c40bc20ef5');
INSERT INTO "tape_journal" VALUES('01a21c33-5ec1-7524-a107-54fe08ac1074',3,'01a21c33-5ec1-7524-a107-54fe08ac1074',1804409458396,'confirmed','DISPATCHING','CONFIRMED',1,'vm:12642','{"event":"Answered","nonce":"7ddd3b7dcbcf47f69be8d076e2da0b3f","token":1,"status":"confirmed","external_ref":"bank.wire-2","sent":true,"may_have_landed":false,"final":false,"retry_in_ms":null,"backoff_ms":638,"reason":"","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false}}','273c3d5ad772d5c77507c5677412c07959a3981ee7f7a2350ac2a09f175e296b');
INSERT INTO "tape_journal" VALUES('01a21c33-5ef1-773e-8602-a86cdb0598f1',1,'01a21c33-5ef1-773e-8602-a86cdb0598f1',1804409458417,'recorded','','PENDING',0,'vm:12642','{"event":"Recorded","request_digest":"2d48fb9f2bf1be7cc44b545281fa0b9e74cf94947ab4c29c8c1aa7d2ea4c466f","semantics":"non_idempotent","max_attempts":5,"due_at_ms":1804409458417,"expires_at_ms":null}','e6f180a4e0629dd49e1e4c878bec71505e9dd0d2419b57a69a70720ea3cbe936');
INSERT INTO "tape_journal" VALUES('01a21c33-5ef1-773e-8602-a86cdb0598f1',2,'01a21c33-5ef1-773e-8602-a86cdb0598f1',1804409458424,'claimed','PENDING','DISPATCHING',1,'vm:12642','{"event":"Claimed","nonce":"ef166e5e8d324199b8821dc21e400144","verb":"call","lease_ms":30000}','f87cddd5724bbbf079e1fd0c03c3ee6fde4dc6b118aa35afbc7a96cdceb160a2');
INSERT INTO "tape_journal" VALUES('01a21c33-5ef1-773e-8602-a86cdb0598f1',3,'01a21c33-5ef1-773e-8602-a86cdb0598f1',1804409458436,'failed','DISPATCHING','FAILED',1,'vm:12642','{"event":"Answered","nonce":"ef166e5e8d324199b8821dc21e400144","token":1,"status":"failed","external_ref":"","sent":true,"may_have_landed":false,"final":false,"retry_in_ms":null,"backoff_ms":551,"reason":"refused","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false}}','6c92819da79204a08c86b1680ee6feb8cdbc9bcd4bfc08da3ca8dd028bfbf07b');
INSERT INTO "tape_journal" VALUES('01a21c33-5f0f-7d2b-b488-2a7e324c632d',1,'01a21c33-5f0f-7d2b-b488-2a7e324c632d',1804409458447,'recorded','','PENDING',0,'vm:12642','{"event":"Recorded","request_digest":"7d911ea32aa51c073b89e93258e7f33748246fb8a13185638ea991e7fc8a8a1c","semantics":"non_idempotent","max_attempts":5,"due_at_ms":1804409458447,"expires_at_ms":null}','18d7fc85a01ffdbcbffe6f9f8fa607e3066d5bfc1f2d8ac114a468556a442aa3');
INSERT INTO "tape_journal" VALUES('01a21c33-5f0f-7d2b-b488-2a7e324c632d',2,'01a21c33-5f0f-7d2b-b488-2a7e324c632d',1804409458457,'claimed','PENDING','DISPATCHING',1,'vm:12642','{"event":"Claimed","nonce":"58c6cab047f44e73a653d4944cfc80cc","verb":"call","lease_ms":30000}','2b326adf35e677e279a36c3f1990673633cd2cf28578d63e20b6ac8568cff33d');
INSERT INTO "tape_journal" VALUES('01a21c33-5f0f-7d2b-b488-2a7e324c632d',3,'01a21c33-5f0f-7d2b-b488-2a7e324c632d',1804409458460,'unknown','DISPATCHING','UNKNOWN',1,'vm:12642','{"event":"Answered","nonce":"58c6cab047f44e73a653d4944cfc80cc","token":1,"status":"unknown","external_ref":"","sent":true,"may_have_landed":false,"final":false,"retry_in_ms":null,"backoff_ms":809,"reason":"AnswerLost: bank.wire: the answer was lost (lose_ack)","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false}}','8600655fe66c30113c4524c26e7cd24716c136be7ccd4b1db4cadd89017b4a5a');
INSERT INTO "tape_journal" VALUES('01a21c33-5f27-7619-b200-c07c5e35a5d2',1,'01a21c33-5f27-7619-b200-c07c5e35a5d2',1804409458472,'recorded','','PENDING',0,'vm:12642','{"event":"Recorded","request_digest":"b823496173d25509744ff5d177bbdf61ef493f1ce4eee1bcadc6b32f34465b82","semantics":"non_idempotent","max_attempts":5,"due_at_ms":1804409458472,"expires_at_ms":null}','3f5d09d585db6e8380fe988c0b60ba5646281c765b3a4f480e4860e15d204c90');
INSERT INTO "tape_journal" VALUES('01a21c33-5f27-7619-b200-c07c5e35a5d2',2,'01a21c33-5f27-7619-b200-c07c5e35a5d2',1804409458480,'claimed','PENDING','DISPATCHING',1,'vm:12642','{"event":"Claimed","nonce":"99e810c5c1dc40d1bf7cdd579b69fe67","verb":"call","lease_ms":30000}','33358354c9963ec2d41460dfe8284bfb5843efa5b4ba686640898aa8aa435522');
INSERT INTO "tape_journal" VALUES('01a21c33-5f27-7619-b200-c07c5e35a5d2',3,'01a21c33-5f27-7619-b200-c07c5e35a5d2',1804409458487,'unknown','DISPATCHING','UNKNOWN',1,'vm:12642','{"event":"Answered","nonce":"99e810c5c1dc40d1bf7cdd579b69fe67","token":1,"status":"unknown","external_ref":"","sent":true,"may_have_landed":false,"final":false,"retry_in_ms":null,"backoff_ms":943,"reason":"AnswerLost: bank.wire: the answer was lost (lose_ack)","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false}}','0ff96ac03ca147c56c9fb63787c18f7a4602e65666973a0e913c57f5a8c9cbdc');
INSERT INTO "tape_journal" VALUES('01a21c33-5f27-7619-b200-c07c5e35a5d2',4,'01a21c33-5f27-7619-b200-c07c5e35a5d2',1804409458498,'look','UNKNOWN','UNKNOWN',2,'vm:12642','{"event":"Claimed","nonce":"d6ddf142093a46308fa28d199bb0806d","verb":"look","lease_ms":30000}','69aafbc46bae4b4a3dc0bc35ebd886033520891e07da52f77da3549dd7ea0fea');
INSERT INTO "tape_journal" VALUES('01a21c33-5f27-7619-b200-c07c5e35a5d2',5,'01a21c33-5f27-7619-b200-c07c5e35a5d2',1804409458506,'observed','UNKNOWN','STUCK',2,'vm:12642','{"event":"Observed","nonce":"d6ddf142093a46308fa28d199bb0806d","token":2,"status":"stuck","external_ref":"","duplicates":null,"superseded":false,"backoff_ms":994,"terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false}}','ba3ccafdb9cf3d924a98650eaecc0222516ca0a56b40af9a548034de4764df51');
INSERT INTO "tape_journal" VALUES('01a21c33-5f4e-786f-b861-fe567ad1796a',1,'01a21c33-5f4e-786f-b861-fe567ad1796a',1804409458511,'recorded','','PENDING',0,'vm:12642','{"event":"Recorded","request_digest":"f8dc9310ad64cee9a64a684711be35617eb6861c46da17f9ceb9fc417b6c2171","semantics":"non_idempotent","max_attempts":5,"due_at_ms":1804409458511,"expires_at_ms":null}','8db7f5ef57b9a5889c85b25da98296a8272979942c8015522fe6a13cdb52f594');
INSERT INTO "tape_journal" VALUES('01a21c33-5f4e-786f-b861-fe567ad1796a',2,'01a21c33-5f4e-786f-b861-fe567ad1796a',1804409458521,'cancelled','PENDING','CANCELLED',0,'human:ann','{"event":"CancelAsked","nonce":"0856d047088e4130a8868a1b704adb7a","reason":"asked for by the customer","seen_version":null,"proposed_by":"","proposal":"","before_call":false,"terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false}}','e37fea7cadb10c4e1362fb7f5214fd6a9db85be25fa8d5ea9e8af2f01a6b857b');
INSERT INTO "tape_journal" VALUES('01a21c33-5f60-7fae-a494-7d4ca1ae84e1',1,'01a21c33-5f60-7fae-a494-7d4ca1ae84e1',1804409458527,'recorded','','PENDING',0,'vm:12642','{"event":"Recorded","request_digest":"2c70d00a1c1d750894fbf2b2e638d96c416170b479a3d8245d0be430ff7c5d51","semantics":"non_idempotent","max_attempts":5,"due_at_ms":1804409458527,"expires_at_ms":null}','a7aaa32eae93270a79ecabddb467de2f8091a8cf69190017caaacc8a42ba6183');
INSERT INTO "tape_journal" VALUES('01a21c33-5f6b-710c-a5aa-f69b303d2ebc',1,'01a21c33-5f6b-710c-a5aa-f69b303d2ebc',1804409458539,'recorded','','HELD',0,'vm:12642','{"event":"Recorded","request_digest":"979b70ec850814cac58b4020facdc8ba8d362ec361a2b9efdae6fa77c3b7c36d","semantics":"non_idempotent","max_attempts":5,"due_at_ms":1804409458539,"expires_at_ms":null,"similar_to":"01a21c33-5f60-7fae-a494-7d4ca1ae84e1","reason":"looks like effect 01a21c33-5f60-7fae-a494-7d4ca1ae84e1, recorded 0.012 s before"}','d2b3bcbd427a3ea8b3f989d249516ac723d935bcbbd5e6b7eec90d5faef8e619');
INSERT INTO "tape_journal" VALUES('01a21c33-5f70-77e8-a1d5-89c62397b7ce',1,'01a21c33-5f70-77e8-a1d5-89c62397b7ce',1804409458545,'recorded','','PENDING',0,'vm:12642','{"event":"Recorded","request_digest":"6a2e5b93b76383ae3aad6f199da7347c4aee080e08e708f1ef6bc7ffb43d54eb","semantics":"non_idempotent","max_attempts":5,"due_at_ms":1804409458545,"expires_at_ms":null}','2965a78d9c88f149984831713619bbf6faedf92ca8823b0324db990ccb85a206');
INSERT INTO "tape_journal" VALUES('01a21c33-5f77-71e8-a0de-45e450b86b22',1,'01a21c33-5f77-71e8-a0de-45e450b86b22',1804409458552,'recorded','','PENDING',0,'vm:12642','{"event":"Recorded","request_digest":"64cd7c6dfbb442493402bf002a2b476bc8ff1d08f76fd81e5651159c835d0109","semantics":"non_idempotent","max_attempts":5,"due_at_ms":1804409458552,"expires_at_ms":null}','d4fce44c7cf7ba93668215c320fd85f27d29792e6c9ed436c1f5e7d1a7fa3307');
INSERT INTO "tape_journal" VALUES('01a21c33-5f77-71e8-a0de-45e450b86b22',2,'01a21c33-5f77-71e8-a0de-45e450b86b22',1804409458555,'claimed','PENDING','DISPATCHING',1,'vm:12642','{"event":"Claimed","nonce":"9fc784db08004d409aad699a7cd75221","verb":"call","lease_ms":30000}','36f84ff13153d0bd2942d6014d6284df8632c1346303568c84aeeb063edf18e1');
INSERT INTO "tape_journal" VALUES('01a21c33-5f77-71e8-a0de-45e450b86b22',3,'01a21c33-5f77-71e8-a0de-45e450b86b22',1804409458560,'unknown','DISPATCHING','UNKNOWN',1,'vm:12642','{"event":"Answered","nonce":"9fc784db08004d409aad699a7cd75221","token":1,"status":"unknown","external_ref":"","sent":true,"may_have_landed":false,"final":false,"retry_in_ms":null,"backoff_ms":651,"reason":"AnswerLost: bank.wire: the answer was lost (duplicate)","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false}}','ecd2a87b58b0c0e4d717f796378f604657b57f0c6ee0c854de3468a31c1e14eb');
INSERT INTO "tape_journal" VALUES('01a21c33-5f77-71e8-a0de-45e450b86b22',4,'01a21c33-5f77-71e8-a0de-45e450b86b22',1804409458563,'look','UNKNOWN','UNKNOWN',2,'vm:12642','{"event":"Claimed","nonce":"d853f97bd1ec4db0a0e33bc150d9c19f","verb":"look","lease_ms":30000}','540e74f49578a78eb1da5d5cf0e6651df49c9fddf9cf855b8260c5182eec353a');
INSERT INTO "tape_journal" VALUES('01a21c33-5f77-71e8-a0de-45e450b86b22',5,'01a21c33-5f77-71e8-a0de-45e450b86b22',1804409458569,'observed','UNKNOWN','CONFIRMED',2,'vm:12642','{"event":"Observed","nonce":"d853f97bd1ec4db0a0e33bc150d9c19f","token":2,"status":"duplicate","external_ref":"bank.wire-5","duplicates":["bank.wire-6"],"superseded":false,"backoff_ms":880,"terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false},"owed":["bank.wire-6"]}','3393182d349fdc59e0e53a8f52330886b5a8182b083c8db85d015c593cae9dca');
INSERT INTO "tape_journal" VALUES('01a21c33-5f90-7740-af2c-c896ef9aa89e',1,'01a21c33-5f77-71e8-a0de-45e450b86b22',1804409458569,'recorded','','PENDING',0,'vm:12642','{"event":"Registered","kind":"duplicate","external_ref":"bank.wire-6","reason":""}','265dc79317c3952633c0fdac5d694596e29c28bcf908387e05671434cf4fe977');
INSERT INTO "tape_journal" VALUES('01a21c33-5f99-7d78-9af0-05d2fb2f9810',1,'01a21c33-5f99-7d78-9af0-05d2fb2f9810',1804409458585,'recorded','','PENDING',0,'vm:12642','{"event":"Recorded","request_digest":"535e1306d7742bde1a20b2e27f4e2fb262ef6fd597bb3e0f35a98037e9cf82d3","semantics":"non_idempotent","max_attempts":5,"due_at_ms":1804409458585,"expires_at_ms":null}','ee76b3e8529076a7a4de79b1974a068633199018c98c381454d5fdb4338d2ac1');
INSERT INTO "tape_journal" VALUES('01a21c33-5f99-7d78-9af0-05d2fb2f9810',2,'01a21c33-5f99-7d78-9af0-05d2fb2f9810',1804409458592,'claimed','PENDING','DISPATCHING',1,'vm:12642','{"event":"Claimed","nonce":"85ba2e6cd310448c9d4e7c9791bc606a","verb":"call","lease_ms":30000}','8edab373f3c8da07b12315d0232d839d663c36db35bc835f9710c0f67dacad24');
INSERT INTO "tape_journal" VALUES('01a21c33-5f99-7d78-9af0-05d2fb2f9810',3,'01a21c33-5f99-7d78-9af0-05d2fb2f9810',1804409458596,'confirmed','DISPATCHING','CONFIRMED',1,'vm:12642','{"event":"Answered","nonce":"85ba2e6cd310448c9d4e7c9791bc606a","token":1,"status":"confirmed","external_ref":"bank.wire-7","sent":true,"may_have_landed":false,"final":false,"retry_in_ms":null,"backoff_ms":523,"reason":"","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false}}','0a68e830b4f5b01dba3ae7c0c46f0630d4837c7a4d8edbb796574323fa9822de');
INSERT INTO "tape_journal" VALUES('01a21c33-5f99-7d78-9af0-05d2fb2f9810',4,'01a21c33-5f99-7d78-9af0-05d2fb2f9810',1804409458599,'owed','CONFIRMED','CONFIRMED',1,'human:ann','{"event":"OweAsked","nonce":"1ae4ffb7d3e8484d9ae5a8df79f641b7","reason":"asked for by the customer","seen_version":null,"proposed_by":"","proposal":"","kind":"owed","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false},"owed":["bank.wire-7"]}','236b888f281019bf997f73d8aac631d0e889aba0df91c6a7423add59c5b3aa1d');
INSERT INTO "tape_journal" VALUES('01a21c33-5fa8-7f3f-9e70-7ab9b1270058',1,'01a21c33-5f99-7d78-9af0-05d2fb2f9810',1804409458599,'recorded','','PENDING',0,'human:ann','{"event":"Registered","kind":"owed","external_ref":"bank.wire-7","reason":"asked for by the customer"}','d3abb0e6581601af6acb1baa05e71c6f9ddcec748ebe9ed273c0e9c581dc27d1');
INSERT INTO "tape_journal" VALUES('01a21c33-5fa8-7f3f-9e70-7ab9b1270058',2,'01a21c33-5f99-7d78-9af0-05d2fb2f9810',1804409458720,'claimed','PENDING','COMPENSATING',1,'vm:12642','{"event":"Claimed","nonce":"04f8676aa7374545b4c4063cdbc193ff","verb":"call","lease_ms":30000}','66df46222020afa4f5a26e943d140cb0d0e829098f72ba242ba7ac0c23fe9641');
INSERT INTO "tape_journal" VALUES('01a21c33-5fa8-7f3f-9e70-7ab9b1270058',3,'01a21c33-5f99-7d78-9af0-05d2fb2f9810',1804409458727,'unknown','COMPENSATING','UNKNOWN',1,'vm:12642','{"event":"Answered","nonce":"04f8676aa7374545b4c4063cdbc193ff","token":1,"status":"unknown","external_ref":"","sent":true,"may_have_landed":false,"final":false,"retry_in_ms":null,"backoff_ms":702,"reason":"AnswerLost: bank.wire: the answer was lost (lose_ack)","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false}}','652d8a334a7b342fdbbb682cac783c2101177ee6f7d2afdd6e81ef22e035e61e');
INSERT INTO "tape_journal" VALUES('01a21c33-602a-7ae3-baca-801943c26dea',1,'01a21c33-602a-7ae3-baca-801943c26dea',1804409458730,'recorded','','PENDING',0,'vm:12642','{"event":"Recorded","request_digest":"f5af1d738a7fed964692736926b207109abd401cf34bcef782dcdecf08462aa2","semantics":"non_idempotent","max_attempts":5,"due_at_ms":1804409458730,"expires_at_ms":null}','dff3fda459297dc5e816c9fc7643bd21bd374318770a3e49a2836f2b7190d23e');
INSERT INTO "tape_journal" VALUES('01a21c33-602a-7ae3-baca-801943c26dea',2,'01a21c33-602a-7ae3-baca-801943c26dea',1804409458744,'claimed','PENDING','DISPATCHING',1,'vm:12642','{"event":"Claimed","nonce":"0b0259811b0c46d99c1d2fe872287cac","verb":"call","lease_ms":30000}','d202e2a4716004288b63fabfa0b414a777bfd466fff27ca75a014b78cce2d21e');
INSERT INTO "tape_journal" VALUES('01a21c33-602a-7ae3-baca-801943c26dea',3,'01a21c33-602a-7ae3-baca-801943c26dea',1804409458752,'confirmed','DISPATCHING','CONFIRMED',1,'vm:12642','{"event":"Answered","nonce":"0b0259811b0c46d99c1d2fe872287cac","token":1,"status":"confirmed","external_ref":"bank.wire-8","sent":true,"may_have_landed":false,"final":false,"retry_in_ms":null,"backoff_ms":891,"reason":"","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false}}','8db3567e1b316d1141024a7eff2fb30b632754706c997a7e43e19cb1c7ef4356');
INSERT INTO "tape_journal" VALUES('01a21c33-602a-7ae3-baca-801943c26dea',4,'01a21c33-602a-7ae3-baca-801943c26dea',1804409458756,'owed','CONFIRMED','CONFIRMED',1,'human:ann','{"event":"OweAsked","nonce":"10e536daad41490cb18955a75d0b16d0","reason":"asked for by the customer","seen_version":null,"proposed_by":"","proposal":"","kind":"owed","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false},"owed":["bank.wire-8"]}','abe79d27090268f8363714470b2d831468ff947c2d5c53d168b8ae3dd799854d');
INSERT INTO "tape_journal" VALUES('01a21c33-6045-72dd-8cd6-5fa6aa7eb1a8',1,'01a21c33-602a-7ae3-baca-801943c26dea',1804409458756,'recorded','','PENDING',0,'human:ann','{"event":"Registered","kind":"owed","external_ref":"bank.wire-8","reason":"asked for by the customer"}','57856c4c33fa8ea864077560d54ea9e108134098169975bdf361d6a371da1364');
INSERT INTO "tape_journal" VALUES('01a21c33-6045-72dd-8cd6-5fa6aa7eb1a8',2,'01a21c33-602a-7ae3-baca-801943c26dea',1804409458764,'claimed','PENDING','COMPENSATING',1,'vm:12642','{"event":"Claimed","nonce":"8fa982ecbafc44d2986597adbc53f510","verb":"call","lease_ms":30000}','901cef4ffe2d3db51dab7214bb0d7c6321dfa72dcf05edce6bfa6e4d17fb0bd9');
INSERT INTO "tape_journal" VALUES('01a21c33-6045-72dd-8cd6-5fa6aa7eb1a8',3,'01a21c33-602a-7ae3-baca-801943c26dea',1804409458767,'failed','COMPENSATING','STUCK',1,'vm:12642','{"event":"Answered","nonce":"8fa982ecbafc44d2986597adbc53f510","token":1,"status":"failed","external_ref":"","sent":true,"may_have_landed":false,"final":true,"retry_in_ms":null,"backoff_ms":819,"reason":"refused","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false}}','ab300750dbdc325cd11a2a3ee09be152575be269935291216f5278fa30249bc3');
INSERT INTO "tape_journal" VALUES('01a21c33-605a-724f-bfb5-a5ccc572d8e1',1,'01a21c33-605a-724f-bfb5-a5ccc572d8e1',1804409458778,'recorded','','PENDING',0,'vm:12642','{"event":"Recorded","request_digest":"4f1d3688971b91dd8675e35178ef4b29ab76fc3029afe81c9dca6f01dbf392a3","semantics":"non_idempotent","max_attempts":5,"due_at_ms":1804409458778,"expires_at_ms":null}','b36ed58a69605d470aff0f1599188e9cbd9dfa77c07686c91a836e0e9a22bdf9');
INSERT INTO "tape_journal" VALUES('01a21c33-605a-724f-bfb5-a5ccc572d8e1',2,'01a21c33-605a-724f-bfb5-a5ccc572d8e1',1804409458784,'claimed','PENDING','DISPATCHING',1,'vm:12642','{"event":"Claimed","nonce":"d0ecd07d7b834f5989e0a23763b36a7d","verb":"call","lease_ms":30000}','0bfd98491321ce421628dd73f0a4385b95ec046e5912d79db87c2f8138620a76');
INSERT INTO "tape_journal" VALUES('01a21c33-605a-724f-bfb5-a5ccc572d8e1',3,'01a21c33-605a-724f-bfb5-a5ccc572d8e1',1804409458791,'confirmed','DISPATCHING','CONFIRMED',1,'vm:12642','{"event":"Answered","nonce":"d0ecd07d7b834f5989e0a23763b36a7d","token":1,"status":"confirmed","external_ref":"bank.wire-9","sent":true,"may_have_landed":false,"final":false,"retry_in_ms":null,"backoff_ms":933,"reason":"","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false}}','e5ea2db2d5b5a2471c317cc8abbcbceb7b347b2bfe71372c38eb6779ae56b4f7');
INSERT INTO "tape_journal" VALUES('01a21c33-606b-7eae-b18a-a7b11d59db74',1,'01a21c33-606b-7eae-b18a-a7b11d59db74',1804409458796,'recorded','','PENDING',0,'vm:12642','{"event":"Recorded","request_digest":"c638090d1b9ed20a4bf48ba1c8a873154078363b418abbcc2c4bea236b20320c","semantics":"non_idempotent","max_attempts":5,"due_at_ms":1804409458796,"expires_at_ms":null}','d68a37af64c94183bc8a2146dbd50c4b1f26a24801c7b17e1f439ac01dd876d7');
INSERT INTO "tape_journal" VALUES('01a21c33-606b-7eae-b18a-a7b11d59db74',2,'01a21c33-606b-7eae-b18a-a7b11d59db74',1804409458801,'claimed','PENDING','DISPATCHING',1,'vm:12642','{"event":"Claimed","nonce":"49e19284a1df403c83abb51d3d59b923","verb":"call","lease_ms":30000}','af02be3bf19d5118e0910f19339f0b1fed4f4d281595f6f694f54bbe9574bb22');
INSERT INTO "tape_journal" VALUES('01a21c33-606b-7eae-b18a-a7b11d59db74',3,'01a21c33-606b-7eae-b18a-a7b11d59db74',1804409458803,'confirmed','DISPATCHING','CONFIRMED',1,'vm:12642','{"event":"Answered","nonce":"49e19284a1df403c83abb51d3d59b923","token":1,"status":"confirmed","external_ref":"bank.wire-10","sent":true,"may_have_landed":false,"final":false,"retry_in_ms":null,"backoff_ms":853,"reason":"","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false}}','9a4818d8c883c26591e587f3b2ff2ca05ab42e3862260a16908aa2e04001a087');
INSERT INTO "tape_journal" VALUES('01a21c33-606b-7eae-b18a-a7b11d59db74',4,'01a21c33-606b-7eae-b18a-a7b11d59db74',1804409458817,'owed','CONFIRMED','CONFIRMED',1,'vm:12642','{"event":"OweAsked","nonce":"","reason":"run order (asked for by the customer)","seen_version":null,"proposed_by":"","proposal":"","kind":"run","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false},"owed":["bank.wire-10"]}','703b600252c838a2739451131bc41f5e2198d3bb672c4d5aa1d72332f84f9c9c');
INSERT INTO "tape_journal" VALUES('01a21c33-6082-73fa-9d5d-da85b89f1a56',1,'01a21c33-606b-7eae-b18a-a7b11d59db74',1804409458817,'recorded','','PENDING',0,'vm:12642','{"event":"Registered","kind":"run","external_ref":"bank.wire-10","reason":"run order (asked for by the customer)"}','6bd205f322e3c1236243888eefa6233c1e5bb42ec9d834a10268e113fe4d16b8');
INSERT INTO "tape_journal" VALUES('01a21c33-6082-73fa-9d5d-da85b89f1a56',2,'01a21c33-606b-7eae-b18a-a7b11d59db74',1804409458832,'claimed','PENDING','COMPENSATING',1,'vm:12642','{"event":"Claimed","nonce":"fc5bdcdf842144e9b8c17708c73d9f7a","verb":"call","lease_ms":30000}','ebdf288b56b222ab035835eb2c6c6584a89b92ccd65d028c61398a61c0493df6');
INSERT INTO "tape_journal" VALUES('01a21c33-6082-73fa-9d5d-da85b89f1a56',3,'01a21c33-606b-7eae-b18a-a7b11d59db74',1804409458844,'compensated','COMPENSATING','COMPENSATED',1,'vm:12642','{"event":"Answered","nonce":"fc5bdcdf842144e9b8c17708c73d9f7a","token":1,"status":"confirmed","external_ref":"","sent":true,"may_have_landed":false,"final":false,"retry_in_ms":null,"backoff_ms":627,"reason":"","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false}}','13857f3aaa5905bed73306f815846ed926493a2c2b01cdacde6db6d7bf6706da');
INSERT INTO "tape_journal" VALUES('01a21c33-605a-724f-bfb5-a5ccc572d8e1',4,'01a21c33-605a-724f-bfb5-a5ccc572d8e1',1804409458852,'owed','CONFIRMED','CONFIRMED',1,'vm:12642','{"event":"OweAsked","nonce":"","reason":"run order (asked for by the customer)","seen_version":null,"proposed_by":"","proposal":"","kind":"run","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false},"owed":["bank.wire-9"]}','19bfdadb924aecec2361221efdfcd52d0d3c016cdaef751679559e8a2ecc60b6');
INSERT INTO "tape_journal" VALUES('01a21c33-60a5-7c4b-a08e-241e4cc46318',1,'01a21c33-605a-724f-bfb5-a5ccc572d8e1',1804409458852,'recorded','','PENDING',0,'vm:12642','{"event":"Registered","kind":"run","external_ref":"bank.wire-9","reason":"run order (asked for by the customer)"}','a954db93890746743e9215c6ec10d54a87210886197cc7bf5d019cc8b86705f1');
INSERT INTO "tape_journal" VALUES('01a21c33-60a5-7c4b-a08e-241e4cc46318',2,'01a21c33-605a-724f-bfb5-a5ccc572d8e1',1804409458871,'claimed','PENDING','COMPENSATING',1,'vm:12642','{"event":"Claimed","nonce":"41aa0967282d41ed94b3d436a6a9bb88","verb":"call","lease_ms":30000}','92d602491ae0b5bf2304a0f8548d3bfa0e33df2853cea35303c8a84e55b02368');
INSERT INTO "tape_journal" VALUES('01a21c33-60a5-7c4b-a08e-241e4cc46318',3,'01a21c33-605a-724f-bfb5-a5ccc572d8e1',1804409458874,'compensated','COMPENSATING','COMPENSATED',1,'vm:12642','{"event":"Answered","nonce":"41aa0967282d41ed94b3d436a6a9bb88","token":1,"status":"confirmed","external_ref":"","sent":true,"may_have_landed":false,"final":false,"retry_in_ms":null,"backoff_ms":836,"reason":"","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false}}','ba2a5f6bcc6a0a49a7c980e396cf8fde12808457ee490d985471b306392a9ed8');
INSERT INTO "tape_journal" VALUES('01a21c33-60c9-7d36-98b4-c9ed7bd69d29',1,'01a21c33-60c9-7d36-98b4-c9ed7bd69d29',1804409458890,'recorded','','PENDING',0,'vm:12642','{"event":"Recorded","request_digest":"3eae2618aa2708fbe634a686720b6bf09913468a63238aad51b71b48d6aa2fd7","semantics":"non_idempotent","max_attempts":5,"due_at_ms":1804409458890,"expires_at_ms":null}','0068f17258e2891d7ee81eb07634bb68f2a7dec9f682ee47fe4f974e3cca9b63');
INSERT INTO "tape_journal" VALUES('01a21c33-60cb-707a-8ed2-cef62a290ccc',1,'01a21c33-60cb-707a-8ed2-cef62a290ccc',1804409458893,'recorded','','PENDING',0,'vm:12642','{"event":"Recorded","request_digest":"8d7410185afab3189be99fc4a39ceb711c03697d5567512d2aac482a134094c5","semantics":"non_idempotent","max_attempts":5,"due_at_ms":1804409458893,"expires_at_ms":null}','dc26a21f54c7e4a31514857005a8219a789561e7ff957d4428b52e1e8ee38caa');
INSERT INTO "tape_journal" VALUES('01a21c33-60cb-707a-8ed2-cef62a290ccc',2,'01a21c33-60cb-707a-8ed2-cef62a290ccc',1804409458897,'claimed','PENDING','DISPATCHING',1,'vm:12642','{"event":"Claimed","nonce":"3aefd78ed608412dbaabbc1b3153d94f","verb":"call","lease_ms":30000}','2254ee203ec2a6114c0285d974645a1dec1a62e48c601a05165bb918427893f8');
INSERT INTO "tape_journal" VALUES('01a21c33-60cb-707a-8ed2-cef62a290ccc',3,'01a21c33-60cb-707a-8ed2-cef62a290ccc',1804409458898,'confirmed','DISPATCHING','CONFIRMED',1,'vm:12642','{"event":"Answered","nonce":"3aefd78ed608412dbaabbc1b3153d94f","token":1,"status":"confirmed","external_ref":"bank.wire-11","sent":true,"may_have_landed":false,"final":false,"retry_in_ms":null,"backoff_ms":913,"reason":"","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false}}','2fb6937ead345eb979465041cc190a90235d26578a215b48daa962107a60810a');
INSERT INTO "tape_journal" VALUES('01a21c33-60cb-707a-8ed2-cef62a290ccc',4,'01a21c33-60cb-707a-8ed2-cef62a290ccc',1804409458902,'owed','CONFIRMED','CONFIRMED',1,'human:ann','{"event":"OweAsked","nonce":"9d352e0a5ab84b68b06ffc222a19d658","reason":"asked for by the customer","seen_version":null,"proposed_by":"","proposal":"","kind":"owed","terms":{"settle_ms":0,"window_ms":86400000,"lease_ms":30000,"observe_attempts":1,"watch_ms":[3600000,86400000],"can_compensate":true,"compensation_idempotent":false},"owed":["bank.wire-11"]}','a19bb2fa4efee1d08ae5016030fb2e29a62ca58a503aa7e5fe2033013b7e174d');
INSERT INTO "tape_journal" VALUES('01a21c33-60d7-725a-a53e-9e3037b24d5e',1,'01a21c33-60cb-707a-8ed2-cef62a290ccc',1804409458902,'recorded','','PENDING',0,'human:ann','{"event":"Registered","kind":"owed","external_ref":"bank.wire-11","reason":"asked for by the customer"}','6969740610f94923601c00f7f9c9f5dcc7cba76926a65c1bf2c6e26e0b25b029');
INSERT INTO "tape_journal" VALUES('01a21c33-60c9-7d36-98b4-c9ed7bd69d29',2,'01a21c33-60c9-7d36-98b4-c9ed7bd69d29',1804409458914,'claimed','PENDING','DISPATCHING',1,'vm:12642','{"event":"Claimed","nonce":"501eef02e3744993875bd208d8e2606c","verb":"call","lease_ms":30000}','67f7609ffbfa01f99799dae5387337a3ad35d50adac76cb8004cd18581e56686');
INSERT INTO "tape_journal" VALUES('01a21c33-60d7-725a-a53e-9e3037b24d5e',2,'01a21c33-60cb-707a-8ed2-cef62a290ccc',1804409458915,'claimed','PENDING','COMPENSATING',1,'vm:12642','{"event":"Claimed","nonce":"da28d5da1ea54b779ecb7ec33b018827","verb":"call","lease_ms":30000}','951e872bf70f67ffc07300a9fdd328c02596d25530dcc9f80fb50e25169765c0');
CREATE TABLE tape_obligations (
	obligation_key VARCHAR(64) NOT NULL, 
	effect_key VARCHAR(64) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	connector VARCHAR(200) NOT NULL, 
	effect_name VARCHAR(200) NOT NULL, 
	kind VARCHAR(24) NOT NULL, 
	external_ref VARCHAR(512) NOT NULL, 
	payload_json TEXT NOT NULL, 
	status VARCHAR(24) NOT NULL, 
	reason TEXT NOT NULL, 
	idempotency_key VARCHAR(200) NOT NULL, 
	response_json TEXT NOT NULL, 
	error_json TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	max_attempts INTEGER NOT NULL, 
	unsent INTEGER NOT NULL, 
	looks INTEGER NOT NULL, 
	dispatch_token INTEGER NOT NULL, 
	token INTEGER NOT NULL, 
	claim_nonce VARCHAR(64) NOT NULL, 
	claimed_at_ms BIGINT, 
	lease_until_ms BIGINT, 
	may_have_landed BOOLEAN NOT NULL, 
	might_before BOOLEAN NOT NULL, 
	landed BOOLEAN NOT NULL, 
	due_at_ms BIGINT, 
	sweep_at_ms BIGINT, 
	settled_at_ms BIGINT, 
	first_sent_at_ms BIGINT, 
	created_at_ms BIGINT NOT NULL, 
	updated_at_ms BIGINT NOT NULL, 
	version INTEGER NOT NULL, traceparent VARCHAR(55) DEFAULT '' NOT NULL, dispatch_traceparent VARCHAR(55) DEFAULT '' NOT NULL, 
	PRIMARY KEY (obligation_key), 
	CONSTRAINT tape_obligations_compensating_is_leased CHECK (status <> 'COMPENSATING' OR (lease_until_ms IS NOT NULL AND claim_nonce <> '')), 
	CONSTRAINT tape_obligations_stuck_says_why CHECK (status <> 'STUCK' OR reason <> ''), 
	CONSTRAINT tape_obligations_unsettled_is_swept CHECK (status IN ('COMPENSATED', 'STUCK') OR sweep_at_ms IS NOT NULL), 
	CONSTRAINT tape_obligations_status_is_known CHECK (status IN ('PENDING', 'COMPENSATING', 'COMPENSATED', 'UNKNOWN', 'STUCK')), 
	CONSTRAINT tape_obligations_attempts_are_bounded CHECK (attempt >= 0 AND attempt <= max_attempts), 
	CONSTRAINT tape_obligations_effect FOREIGN KEY(effect_key) REFERENCES tape_effects (effect_key), 
	CONSTRAINT tape_obligations_one_per_record UNIQUE (effect_key, external_ref), 
	CONSTRAINT tape_obligations_one_per_idempotency_key UNIQUE (idempotency_key)
);
INSERT INTO "tape_obligations" VALUES('01a21c33-5f90-7740-af2c-c896ef9aa89e','01a21c33-5f77-71e8-a0de-45e450b86b22','01a21c33-5f77-71e8-a0de-45e450b86b22','bank.wire','','duplicate','bank.wire-6','{"business_key":"duplicate","effect_key":"01a21c33-5f77-71e8-a0de-45e450b86b22","external_ref":"bank.wire-6","idempotency_key":"01a21c33-5f77-71e8-a0de-45e450b86b22","kind":"duplicate","request":{"amount":7,"what":"duplicate"},"run_id":"01a21c33-5f77-71e8-a0de-45e450b86b22"}','PENDING','','compensate:01a21c33-5f90-7740-af2c-c896ef9aa89e','','',0,5,0,0,0,0,'',NULL,NULL,0,0,0,1804409458569,1804409458569,NULL,NULL,1804409458569,1804409458569,1,'','');
INSERT INTO "tape_obligations" VALUES('01a21c33-5fa8-7f3f-9e70-7ab9b1270058','01a21c33-5f99-7d78-9af0-05d2fb2f9810','01a21c33-5f99-7d78-9af0-05d2fb2f9810','bank.wire','','owed','bank.wire-7','{"business_key":"owed, unknown","effect_key":"01a21c33-5f99-7d78-9af0-05d2fb2f9810","external_ref":"bank.wire-7","idempotency_key":"01a21c33-5f99-7d78-9af0-05d2fb2f9810","kind":"owed","request":{"amount":7,"what":"owed, unknown"},"run_id":"01a21c33-5f99-7d78-9af0-05d2fb2f9810"}','UNKNOWN','AnswerLost: bank.wire: the answer was lost (lose_ack)','compensate:01a21c33-5fa8-7f3f-9e70-7ab9b1270058','','{"type":"tape_celery.testing.scripted.AnswerLost","message":"bank.wire: the answer was lost (lose_ack)"}',1,5,0,0,1,1,'',1804409458720,NULL,1,0,0,1804409458727,1804409458727,1804409458727,1804409458720,1804409458599,1804409458727,3,'','');
INSERT INTO "tape_obligations" VALUES('01a21c33-6045-72dd-8cd6-5fa6aa7eb1a8','01a21c33-602a-7ae3-baca-801943c26dea','01a21c33-602a-7ae3-baca-801943c26dea','bank.wire','','owed','bank.wire-8','{"business_key":"owed, stuck","effect_key":"01a21c33-602a-7ae3-baca-801943c26dea","external_ref":"bank.wire-8","idempotency_key":"01a21c33-602a-7ae3-baca-801943c26dea","kind":"owed","request":{"amount":7,"what":"owed, stuck"},"run_id":"01a21c33-602a-7ae3-baca-801943c26dea"}','STUCK','refused','compensate:01a21c33-6045-72dd-8cd6-5fa6aa7eb1a8','','{"reason":"refused","final":true}',1,5,0,0,1,1,'',1804409458764,NULL,0,0,0,NULL,NULL,1804409458767,1804409458764,1804409458756,1804409458767,3,'','');
INSERT INTO "tape_obligations" VALUES('01a21c33-6082-73fa-9d5d-da85b89f1a56','01a21c33-606b-7eae-b18a-a7b11d59db74','order','bank.wire','','run','bank.wire-10','{"business_key":"second of a run","effect_key":"01a21c33-606b-7eae-b18a-a7b11d59db74","external_ref":"bank.wire-10","idempotency_key":"01a21c33-606b-7eae-b18a-a7b11d59db74","kind":"run","request":{"amount":7,"what":"second of a run"},"run_id":"order"}','COMPENSATED','','compensate:01a21c33-6082-73fa-9d5d-da85b89f1a56','','',1,5,0,0,1,1,'',1804409458832,NULL,0,0,0,NULL,NULL,1804409458844,1804409458832,1804409458817,1804409458844,3,'','');
INSERT INTO "tape_obligations" VALUES('01a21c33-60a5-7c4b-a08e-241e4cc46318','01a21c33-605a-724f-bfb5-a5ccc572d8e1','order','bank.wire','','run','bank.wire-9','{"business_key":"first of a run","effect_key":"01a21c33-605a-724f-bfb5-a5ccc572d8e1","external_ref":"bank.wire-9","idempotency_key":"01a21c33-605a-724f-bfb5-a5ccc572d8e1","kind":"run","request":{"amount":7,"what":"first of a run"},"run_id":"order"}','COMPENSATED','','compensate:01a21c33-60a5-7c4b-a08e-241e4cc46318','','',1,5,0,0,1,1,'',1804409458871,NULL,0,0,0,NULL,NULL,1804409458874,1804409458871,1804409458852,1804409458874,3,'','');
INSERT INTO "tape_obligations" VALUES('01a21c33-60d7-725a-a53e-9e3037b24d5e','01a21c33-60cb-707a-8ed2-cef62a290ccc','01a21c33-60cb-707a-8ed2-cef62a290ccc','bank.wire','','owed','bank.wire-11','{"business_key":"owed, compensating","effect_key":"01a21c33-60cb-707a-8ed2-cef62a290ccc","external_ref":"bank.wire-11","idempotency_key":"01a21c33-60cb-707a-8ed2-cef62a290ccc","kind":"owed","request":{"amount":7,"what":"owed, compensating"},"run_id":"01a21c33-60cb-707a-8ed2-cef62a290ccc"}','COMPENSATING','','compensate:01a21c33-60d7-725a-a53e-9e3037b24d5e','','',1,5,0,0,1,1,'da28d5da1ea54b779ecb7ec33b018827',1804409458915,1804409488915,0,0,0,1804409458902,1804409488915,NULL,1804409458915,1804409458902,1804409458915,2,'','');
CREATE TABLE tape_orderings (
	ordering_key VARCHAR(200) NOT NULL, 
	last_number BIGINT NOT NULL, 
	PRIMARY KEY (ordering_key)
);
INSERT INTO "tape_orderings" VALUES('similar:2e8',2);
CREATE TABLE tape_proposals (
	proposal_key VARCHAR(64) NOT NULL, 
	subject_key VARCHAR(200) NOT NULL, 
	open_subject VARCHAR(200), 
	act VARCHAR(24) NOT NULL, 
	arguments_json TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	actor VARCHAR(200) NOT NULL, 
	seen_version INTEGER NOT NULL, 
	status VARCHAR(24) NOT NULL, 
	decided_by VARCHAR(200) NOT NULL, 
	decided_at_ms BIGINT, 
	created_at_ms BIGINT NOT NULL, 
	PRIMARY KEY (proposal_key), 
	CONSTRAINT tape_proposals_status_is_known CHECK (status IN ('OPEN', 'CONFIRMED', 'WITHDRAWN')), 
	CONSTRAINT tape_proposals_open_holds_its_subject CHECK ((status = 'OPEN' AND open_subject IS NOT NULL) OR (status <> 'OPEN' AND open_subject IS NULL)), 
	CONSTRAINT tape_proposals_one_open_per_subject UNIQUE (open_subject)
);
CREATE TABLE tape_runs (
	run_id VARCHAR(200) NOT NULL, 
	status VARCHAR(24) NOT NULL, 
	reason TEXT NOT NULL, 
	closing_reason TEXT NOT NULL, 
	actor VARCHAR(200) NOT NULL, 
	sweep_at_ms BIGINT, 
	created_at_ms BIGINT NOT NULL, 
	updated_at_ms BIGINT NOT NULL, 
	version INTEGER NOT NULL, 
	PRIMARY KEY (run_id), 
	CONSTRAINT tape_runs_status_is_known CHECK (status IN ('OPEN', 'CANCELLING', 'COMPENSATING', 'CANCELLED', 'COMPENSATED', 'STUCK')), 
	CONSTRAINT tape_runs_walked_is_swept CHECK (status NOT IN ('CANCELLING', 'COMPENSATING') OR sweep_at_ms IS NOT NULL)
);
INSERT INTO "tape_runs" VALUES('order','COMPENSATED','','asked for by the customer','human:ann',NULL,1804409458811,1804409458881,8);
CREATE TABLE tape_tombstones (
	effect_key VARCHAR(64) NOT NULL, 
	connector VARCHAR(200) NOT NULL, 
	idempotency_key VARCHAR(200) NOT NULL, 
	business_key VARCHAR(200) NOT NULL, 
	held_business_key VARCHAR(200), 
	run_id VARCHAR(200) NOT NULL, 
	request_digest VARCHAR(64) NOT NULL, 
	status VARCHAR(24) NOT NULL, 
	external_ref VARCHAR(512) NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	ended_at_ms BIGINT NOT NULL, 
	pruned_at_ms BIGINT NOT NULL, 
	PRIMARY KEY (effect_key), 
	CONSTRAINT tape_tombstones_one_per_idempotency_key UNIQUE (idempotency_key), 
	CONSTRAINT tape_tombstones_one_per_business_key UNIQUE (connector, held_business_key)
);
INSERT INTO "tape_tombstones" VALUES('01a21c33-5e72-7075-97ba-6eb04ffb58ea','bank.wire','01a21c33-5e72-7075-97ba-6eb04ffb58ea','pruned','pruned','01a21c33-5e72-7075-97ba-6eb04ffb58ea','ea4e52dacdb09655f9ef505a84e04545047e5f6b7cf2b08e300dc4cecb9a1c5d','CONFIRMED','bank.wire-1',1795769458293,1795769458334,1804409458362);
CREATE TABLE tape_workers (
	worker_name VARCHAR(200) NOT NULL, 
	version VARCHAR(24) NOT NULL, 
	connectors_json TEXT NOT NULL, 
	queues_json TEXT NOT NULL, 
	clock_ahead_ms BIGINT NOT NULL, 
	started_at_ms BIGINT NOT NULL, 
	seen_at_ms BIGINT NOT NULL, key_ids VARCHAR(500) DEFAULT '' NOT NULL, 
	PRIMARY KEY (worker_name)
);
CREATE INDEX tape_effects_due ON tape_effects (connector, sweep_at_ms) WHERE sweep_at_ms IS NOT NULL;
CREATE INDEX tape_obligations_due ON tape_obligations (connector, sweep_at_ms) WHERE sweep_at_ms IS NOT NULL;
CREATE INDEX tape_effects_by_order ON tape_effects (ordering_key, status, order_number) WHERE ordering_key != '';
CREATE INDEX tape_callbacks_by_effect ON tape_callbacks (effect_key);
CREATE INDEX tape_callbacks_due ON tape_callbacks (sweep_at_ms) WHERE sweep_at_ms IS NOT NULL;
CREATE INDEX tape_runs_due ON tape_runs (sweep_at_ms) WHERE sweep_at_ms IS NOT NULL;
CREATE INDEX tape_effects_listed ON tape_effects (status, connector, effect_key, created_at_ms);
CREATE INDEX tape_effects_in_run ON tape_effects (run_id, status, effect_key) WHERE run_id != effect_key;
CREATE INDEX tape_effects_let_go ON tape_effects (business_key, effect_key) WHERE held_business_key IS NULL AND business_key != '';
CREATE INDEX tape_obligations_listed ON tape_obligations (status, obligation_key, connector, created_at_ms);
CREATE INDEX tape_obligations_in_run ON tape_obligations (run_id, status);
CREATE INDEX tape_runs_not_over ON tape_runs (status, run_id) WHERE status IN ('CANCELLING', 'COMPENSATING', 'STUCK');
CREATE INDEX tape_effects_by_similarity ON tape_effects (connector, similar_digest, created_at_ms) WHERE similar_digest != '';
CREATE INDEX tape_effects_by_end ON tape_effects (ended_at_ms) WHERE ended_at_ms IS NOT NULL;
CREATE INDEX tape_journal_by_effect ON tape_journal (effect_key) WHERE key != effect_key;
CREATE INDEX tape_proposals_of_subject ON tape_proposals (subject_key, created_at_ms);
CREATE TRIGGER tape_journal_is_not_changed BEFORE UPDATE ON tape_journal
    BEGIN SELECT RAISE(ABORT, 'tape_journal is append-only: no entry is changed'); END;
CREATE TRIGGER tape_journal_is_kept BEFORE DELETE ON tape_journal
    WHEN NOT EXISTS (SELECT 1 FROM tape_tombstones WHERE effect_key = OLD.effect_key)
    BEGIN SELECT RAISE(ABORT, 'tape_journal is append-only: entries go with a tombstone alone'); END;
COMMIT;

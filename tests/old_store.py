"""What a store of the first versions looks like: records without checksums, archived texts in log and archive."""

FILES = {
    "log-000002.jsonl": (
        '{"v":1,"k":"chunk","id":"2026-09-21_shop_001_wood","at":"2026-09-21T14:14:20.000Z","project":"shop","dom'
        'ain":"wood","ticket":"","session":"2026-09-21_shop_wood","type":"session","tags":["tree"],"summary":"abo'
        'ut oak","entities":{},"sha":"ed9539a429d1d4a1191d54fcc1a30750","n_bytes":31,"place":[2,0,0],"archived_at'
        '":"2026-09-21T14:22:20.000Z"}\n'
        '{"v":1,"k":"chunk","id":"2026-09-21_shop_002_wood","at":"2026-09-21T14:15:20.000Z","project":"shop","dom'
        'ain":"wood","ticket":"","session":"2026-09-21_shop_wood","type":"session","tags":["tree"],"summary":"abo'
        'ut elm","entities":{},"sha":"3f2a213b3c8b264f9910c487410edc4f","n_bytes":31,"place":[2,0,1],"archived_at'
        '":"2026-09-21T14:22:20.000Z"}\n'
        '{"v":1,"k":"chunk","id":"2026-09-21_shop_003_wood","at":"2026-09-21T14:16:20.000Z","project":"shop","dom'
        'ain":"wood","ticket":"","session":"2026-09-21_shop_wood","type":"session","tags":["tree"],"summary":"abo'
        'ut ash","entities":{},"sha":"16a98ab55104c06e6363151a2df6e493","n_bytes":31,"place":[2,0,2],"archived_at'
        '":"2026-09-21T14:22:20.000Z"}\n'
        '{"v":1,"k":"chunk","id":"2026-09-21_shop_004_wood","at":"2026-09-21T14:17:20.000Z","project":"shop","dom'
        'ain":"wood","ticket":"","session":"2026-09-21_shop_wood","type":"session","tags":["tree"],"summary":"abo'
        'ut fir","entities":{},"sha":"d88b80477efdd5512449702f9084369d","n_bytes":31,"text":"the fir text é\\nline'
        ' two 日本"}\n'
        '{"v":1,"k":"chunk","id":"2026-09-21_shop_005_wood","at":"2026-09-21T14:18:20.000Z","project":"shop","dom'
        'ain":"wood","ticket":"","session":"2026-09-21_shop_wood","type":"session","tags":["tree"],"summary":"abo'
        'ut yew","entities":{},"sha":"f7e940d67ab4215af8489fd66748eb20","n_bytes":31,"text":"the yew text é\\nline'
        ' two 日本"}\n'
        '{"v":1,"k":"chunk","id":"2026-09-21_shop_006_wood","at":"2026-09-21T14:19:20.000Z","project":"shop","dom'
        'ain":"wood","ticket":"","session":"2026-09-21_shop_wood","type":"session","tags":["tree"],"summary":"abo'
        'ut bay","entities":{},"sha":"0c135d8c02136ca4299652d98cea9361","n_bytes":31,"text":"the bay text é\\nline'
        ' two 日本"}\n'
        '{"v":1,"k":"insight","id":"i-947f126f","at":"2026-09-21T14:20:20.000Z","project":"shop","category":"deci'
        'sion","importance":"medium","tags":["t"],"sha":"d20cce9e990816584168dcf1282bab53","n_bytes":12,"text":"i'
        'nsight 0 é"}\n'
        '{"v":1,"k":"insight","id":"i-3e0a4e4e","at":"2026-09-21T14:21:20.000Z","project":"shop","category":"deci'
        'sion","importance":"medium","tags":["t"],"sha":"1f66742701a7542e471daaa22c435f39","n_bytes":12,"text":"i'
        'nsight 1 é"}\n'
        '{"v":1,"k":"insight","id":"i-d889fe4c","at":"2026-09-21T14:22:20.000Z","project":"shop","category":"deci'
        'sion","importance":"medium","tags":["t"],"sha":"b896f6585722492b6c28d174bcac16bb","n_bytes":12,"text":"i'
        'nsight 2 é"}\n'
        '{"v":1,"k":"chunk","id":"2026-09-21_shop_002_wood","at":"2026-09-21T14:15:20.000Z","project":"shop","dom'
        'ain":"wood","ticket":"","session":"2026-09-21_shop_wood","type":"session","tags":["tree"],"summary":"abo'
        'ut elm","entities":{},"sha":"3f2a213b3c8b264f9910c487410edc4f","n_bytes":31,"text":"the elm text é\\nline'
        ' two 日本"}\n'
        '{"v":1,"k":"use","at":1790000600,"id":"2026-09-21_shop_002_wood"}\n'
        '{"v":1,"k":"archive","id":"2026-09-21_shop_004_wood","at":"2026-09-21T14:23:20.000Z","place":[3,0,0]}\n'
        '{"v":1,"k":"restore","id":"2026-09-21_shop_004_wood","at":"2026-09-21T14:24:20.000Z"}\n'
        '{"v":1,"k":"use","at":1790000660,"id":"2026-09-21_shop_004_wood"}\n'
        '{"v":1,"k":"archive","id":"2026-09-21_shop_005_wood","at":"2026-09-21T14:24:20.000Z","place":[4,0,0]}\n'
        '{"v":1,"k":"forget","id":"i-3e0a4e4e","at":"2026-09-21T14:25:20.000Z"}\n'
        '{"v":1,"k":"forget","id":"2026-09-21_shop_003_wood","at":"2026-09-21T14:26:20.000Z"}\n'
        '{"v":1,"k":"forget","id":"2026-09-21_shop_006_wood","at":"2026-09-21T14:27:20.000Z"}\n'
        '{"v":1,"k":"use","at":1790000900,"id":"2026-09-21_shop_001_wood"}\n'
        '{"v":1,"k":"use","at":1790000960,"id":"2026-09-21_shop_001_wood"}\n'
    ),
    "log-000003.jsonl": (
        '{"v":1,"k":"chunk","id":"2026-09-21_shop_007","at":"2026-09-21T14:30:20.000Z","project":"shop","domain":'
        '"","ticket":"","session":"2026-09-21_shop","type":"session","tags":[],"summary":"the last text é","entit'
        'ies":{},"sha":"6a52194cdaf8a1d6178c1bc546e9115c","n_bytes":16,"text":"the last text é"}\n'
    ),
    "manifest.json": (
        '{"v": 1, "store": "f9e03a4713a1b9d5", "generation": 2, "made_at": "2026-09-21T14:14:20.000Z", "logs": [['
        '2, 0], [3, 3795]], "archives": [2, 3, 4], "check": 1633797975}'
    ),
}
ARCHIVES = {  # base64
    "archive-000002.jsonl.gz": (
        'H4sIAAAAAAAAA82QTU7DMBCF95wi8rpFHttx65yDFT+KHHtCQpu4alxKVfUcbNiyQOIW3KXnYCzBAolGLFhU8sIz780b+9uzR1bAhC1Y'
        'wVyz6RdswlpPheBCT7mZCiiHJqxKzqHchuBJt/GHfgWqoCP4Jef8mvTVOjygS6Y0SQ0fOtv2VH8FxNYtMOl0H3AY2tD/svHbvFthivry'
        'UcPeD6y4YXGNyO4oYdN1dr0jj63CJmbBpk9gH9vYIjn3B/I0lnT0JpfGKmE8eGUBDPhc1c6BlXyWcxrry2oX05QkKBGf0itjgyk0S2X2'
        '8XbbL9ses7gN2fH59fjyzg4X+79jFGMY8/PBiMvuBEZZCytAVtLNK6FVbQxwp+YzBRy9U/UIRgr9J4xyDKM+H4x2aE5gBG3N3FZ5Dlw5'
        'rlFLLSEHK3ytURk5gpFCxzB+AprtGkDVAwAA'
    ),
    "archive-000003.jsonl.gz": (
        'H4sIAAAAAAAAA22QQU7DQAxF95wi8rpFznTaJHMOVrQommQcMoTMRMmEElU9Bxu2LJC4BXfpOfBIZYHEzt//+dvyCV5ApSvoQEHdzq6D'
        'FVjDQqDYrbFYi7ScWj+UiLI8em/Y1+GPf5dKlWZK4C0i3rM/jP6J6gjFSW4Y32vrWF8Dgq07ij7XE02T9e6fjb/wMlCMunLc0I8TqD2E'
        'kQgeOGHuez0uzOjKzyFp7MgUuWCDJSZPZ2Zazb7J8ypHmWXUGLPdpkLKIkPRFJjLza6I21xZLSFObfgpgV7jlaGlGJpEmXx/HtyzdZSE'
        'o08ubx+X9y843/wAZ+8r/UcBAAA='
    ),
    "archive-000004.jsonl.gz": (
        'H4sIAAAAAAAAA22QTU7DMBCF95wimnWLxibNj8/BqgVFTjIhbogdJQ4hqnoONmxZIHEL7tJzMJbKAondvHnfe7bmBC+gxAY6UFC1s+1g'
        'A6ZmIVEmW8y3UhRT64YCcVcsztXsa//HvxexEpmSeIuIe/aH0R2pClBI8qJ2vTaW9bXAm6qj4PM80TQZZ/958RdeBwpVV44X+mkCdQA/'
        'EsEjN8x9r8eVGV262UcrLUyR9cYbYvJ0ZqbV7Dcp5THWSarLWIqdbrI4y5s6SdI4o1Iix2xRrj6k7vgonl7DL31LoTQKMvr+fLDPxlLk'
        'Fxdd3j4u719wvvkBDNigw0cBAAA='
    ),
}
# id -> kind, text, tier, flags, uses
EXPECTED = {
    '2026-09-21_shop_001_wood': ('chunk', 'the oak text é\nline two 日本', 'archived', 0, 2),
    '2026-09-21_shop_003_wood': ('chunk', 'the ash text é\nline two 日本', 'archived', 1, 0),
    '2026-09-21_shop_004_wood': ('chunk', 'the fir text é\nline two 日本', 'session', 0, 1),
    '2026-09-21_shop_005_wood': ('chunk', 'the yew text é\nline two 日本', 'archived', 0, 0),
    '2026-09-21_shop_006_wood': ('chunk', 'the bay text é\nline two 日本', 'session', 1, 0),
    'i-947f126f': ('insight', 'insight 0 é', 'longterm', 0, 0),
    'i-3e0a4e4e': ('insight', 'insight 1 é', 'longterm', 1, 0),
    'i-d889fe4c': ('insight', 'insight 2 é', 'longterm', 0, 0),
    '2026-09-21_shop_002_wood': ('chunk', 'the elm text é\nline two 日本', 'session', 0, 1),
    '2026-09-21_shop_007': ('chunk', 'the last text é', 'session', 0, 0),
}

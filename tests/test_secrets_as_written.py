"""Secrets as people, commands and files write them go; what only looks or sounds like one stays."""
# ruff: noqa: E501, RUF001  (tables)
from __future__ import annotations

import base64
import unittest

from tests.support import rlm
from tests.test_redact import HEX, PEM_BODY, UPPER, rnd

LOWER = "abcdefghijklmnopqrstuvwxyz0123456789"
# Made up, and put together here so that no scanner takes this file for a leak.
P, Q, W = "Tr0ub4" + "dor&3x", "hunter" + "2-Blue9x", "hunter" + "22"
T = rnd(32)
UUID = "-".join((rnd(8, HEX), rnd(4, HEX), "4" + rnd(3, HEX), rnd(4, HEX), rnd(12, HEX)))

TOLD = [
    (text, secret) for secret in (P, Q, W) for text in (
        "**Password:** `%s`", "- **Root password**: %s",
        "my password is %s", "My password is %s.", "the password is %s", "the root password is %s, ok?", "password is: %s",
        "The admin password was %s until May", "the passphrase is %s", "the password for the staging database is %s",
        "password for bob: %s", "password (staging): %s", "use password %s to log in", "use the password `%s` for it",
        "sudo password %s", "root pw %s", "pw: %s", "PW %s", "pwd: %s", "pass: %s", "Password - %s", "password = %s",
        "the password is now %s", "I changed the password to %s", "new password: %s", "wifi password is '%s'",
        "login with admin / %s", "log in as admin:%s", "login: admin / %s", "you can log in with bob and %s", "credentials: admin / %s",
        "creds are root:%s", "login as root, password %s", "ssh root@10.0.0.5 password %s", "password would be %s", "the password's %s", "I set the password as %s", "the password (%s) is old", "the db passwd is %s",
        "mot de passe : %s", "Mot de passe: %s", "le mot de passe est %s", "mon mdp : %s", "mdp: %s", "le mot de passe de la base est %s",
        "Passwort: %s", "das Passwort ist %s", "mein Passwort lautet %s", "Kennwort: %s", "Das Kennwort für den Server ist %s",
        "contraseña: %s", "la contraseña es %s", "Contraseña: %s", "contrasena: %s", "la clave es %s", "clave: %s",
        "la password è %s", "password di root: %s", "parola d'ordine è: %s", "senha: %s", "a senha é %s", "Senha do banco: %s",
        "palavra-passe: %s", "wachtwoord: %s", "het wachtwoord is %s", "lösenord: %s", "lösenordet är %s", "hasło: %s", "Hasło to: %s",
        "пароль: %s", "Пароль: %s", "пароль от сервера: %s", "мой пароль %s", "пароль — %s", "heslo: %s",
        "パスワード：%s", "パスワードは%sです", "パスワードは「%s」です", "パスワード: %s", "密码：%s", "密码是%s", "密码是 %s，请勿外传", "密碼：%s", "口令：%s",
        "비밀번호: %s", "비밀번호는 %s입니다", "암호는 %s", "şifre: %s", "mật khẩu: %s", "סיסמה: %s", "كلمة المرور: %s", "รหัสผ่าน: %s", "κωδικός: %s",
    )
] + [
    (text, T) for text in (
        "the token is %s", "the api key is %s", "api key is %s", "API key: %s", "my access token is %s", "use token %s", "the client secret is %s",
        "API key %s", "token for the bot: %s", "clé API : %s", "Clé d'API : %s", "API-Schlüssel: %s", "APIキー：%s", "トークンは%s", "токен: %s", "API 키: %s",
        "密钥：%s", "令牌：%s", "jeton d'accès : %s", "the auth token was %s yesterday",
    )
]
COMMANDS = [
    "openssl enc -aes-256-cbc -k %s -in a", "openssl enc -d -aes-256-cbc -pass pass:%s -in a", "openssl rsa -in k.pem -passin pass:%s",
    "openssl pkcs12 -export -passout pass:%s -in a", "openssl passwd -6 %s", "unzip -P %s archive.zip", "unzip -P'%s' archive.zip",
    "zip -r -P %s a.zip b", "7z x a.7z -p%s", "7za a -p%s x.7z y", "rar a -p%s x.rar y", "gpg --batch --passphrase %s --decrypt f.gpg",
    "gpg --passphrase=%s -c f", "mongosh -u app -p %s db", "mongodump --host h -u a -p%s", "sqlcmd -S db -U sa -P %s -Q x", "bcp t out f -U sa -P %s",
    "htpasswd -bc .htpasswd bob %s", "htpasswd -b file bob %s", "htpasswd -nb bob %s", "sqlplus scott/%s@orcl", "sqlplus -s scott/%s@//h/x",
    "mysql -uroot -p%s db", "mariadb -u root -p%s", "redis-cli -a %s ping", "redis-cli --pass %s", "sshpass -p %s ssh x", "cqlsh -u c -p %s",
    "echo \"%s\" | sudo -S ls", "echo bob:%s | sudo chpasswd", "curl -u bob:%s https://x.org", "curl --user bob:%s https://x.org",
    "http -a bob:%s x.org", "smbclient //s/x -U bob%%%s", "lftp -u bob,%s ftp.x.org", "ldapsearch -x -D cn=a -w %s", "ipmitool -U a -P %s power",
    "ssh-keygen -t ed25519 -N %s -f k", "echo %s | passwd --stdin bob", "printf '%s' | sudo -S ls", "echo '%s' | gpg --passphrase-fd 0 -d f",
    "echo %s | openssl enc -pass stdin -in a", "docker login -u me -p %s r.io", "wpa_passphrase MyNet %s", "security unlock-keychain -p %s", "mosquitto_pub -u a -P %s -t x",
    "cd /x && unzip -P %s a.zip", "nmcli dev wifi connect Net password %s", "net user bob /add; mysqladmin -u root password %s",
    "curl --proxy-user bob:%s https://x.org", "psql \"host=h password=%s\"",
]
FILES = [
    ("localhost:5432:app:bob:%s", P.replace("&", "_")), ("db.corp.net:5433:*:bob:%s\n", W), ("*:*:*:postgres:%s", P),
    ("root:$6$" + rnd(12) + "$%s:19000:0:99999:7:::", rnd(86)), ("bob:$y$j9T$" + rnd(20) + "$%s:19000:::", rnd(43)),
    ("bob:$apr1$" + rnd(8) + "$%s", rnd(22)), ("bob:$2y$05$%s", rnd(53)), ("bob:$1$" + rnd(8) + "$%s:1::", rnd(22)),
    ("network={\n ssid=\"x\"\n psk=\"%s\"\n}", P), ("[wifi-security]\npsk=%s", P), ("psk=%s", rnd(64, HEX)), ("wpa_passphrase=%s", P),
    ('{"kty":"EC","crv":"P-256","x":"' + rnd(43) + '","d":"%s"}', rnd(43)), ('{"kty": "oct", "k": "%s"}', rnd(43)),
    (".x.org\tTRUE\t/\tTRUE\t1893456000\tsessionid\t%s", rnd(32)), ("#HttpOnly_x.org\tFALSE\t/\tFALSE\t0\tSID\t%s", rnd(32)),
    ("apiVersion: v1\nkind: Secret\ndata:\n  webhook: %s\n", base64.b64encode((rnd(20) + "!").encode()).decode()),
    ("machine x.org login bob password %s", W), ("MYSQL_PWD=%s", W), ("PGPASSWORD=%s", W), ("password = 'correct-" + "horse-%s'", "9"),
]
DASHES = "-" * 5
BLOCKS = [
    PEM_BODY + f"\n{DASHES}END RSA PRIVATE KEY{DASHES}", "$ tail -6 id_rsa\n" + PEM_BODY + f"\n{rnd(20)}==\n{DASHES}END OPENSSH PRIVATE KEY{DASHES}\nok",
    f"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nComment: \"x\"\n{PEM_BODY}\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",
]
VENDORS = [
    "GR1348941" + rnd(20), "duffel_" + "live_" + rnd(43), "fio" + "-u-" + rnd(64), "tf" + "p_" + rnd(59), "pn" + "u_" + rnd(36), "CFP" + "AT-" + rnd(43),
    "shippo_" + "live_" + rnd(40, HEX), "EZ" + "AK" + rnd(54), "pat" + "-na1-" + UUID, "sl" + "." + rnd(130), "sl" + ".u." + rnd(130), "1/" + "/0" + rnd(60),
    "gl" + "c_" + rnd(80), "eyJr" + "Ijoi" + rnd(80), "oy" + "2" + rnd(43, LOWER), "p8" + "e-" + rnd(32, LOWER), "LT" + "AI" + rnd(20), "access" + "-production-" + UUID,
    "rdm" + "e_" + rnd(70, LOWER), "FLWS" + "ECK-" + rnd(32, HEX) + "-X", "FLWS" + "ECK_TEST-" + rnd(32, HEX) + "-X", "pa" + "t." + rnd(22) + "." + rnd(24, HEX) + "." + rnd(20),
    "ic" + "o-" + rnd(32), "NR" + "II-" + rnd(32), "sha2" + "56~" + rnd(43), "tk" + "-us-" + rnd(48), "EA" + "AA" + "E" + rnd(60), "AQ" + "VN" + rnd(36), "YC" + "N" + rnd(37),
    "t1" + "." + rnd(90) + "." + rnd(86), "y0" + "_" + rnd(58), "v1." + "0-" + rnd(24, HEX) + "-" + rnd(146, HEX), rnd(6) + "_" + rnd(29) + "_m" + "mk", "r" + "e_" + rnd(8) + "_" + rnd(24),
    "tv" + "ly-dev-" + rnd(32), "f" + "c-" + rnd(32, HEX), "f" + "w_" + rnd(24), "nap" + "i_" + rnd(64, LOWER), "ph" + "x_" + rnd(43), "rzp_" + "live_" + rnd(14), "apify" + "_api_" + rnd(36),
    "tgp" + "_v1_" + rnd(43), "vercel_blob" + "_rw_" + rnd(16) + "_" + rnd(30), rnd(76) + "AZ" + "DO" + rnd(4), "amzn" + ".mws." + UUID, "st" + "." + rnd(24, HEX) + "." + rnd(32, HEX) + "." + rnd(32, HEX),
    "https://corp.webhook" + ".office.com/webhookb2/" + UUID + "@" + UUID + "/IncomingWebhook/" + rnd(32, HEX) + "/" + UUID, "AP" + "I-" + rnd(30, UPPER), "CLOJ" + "ARS_" + rnd(60, HEX),
    "sc" + "_" + rnd(12, LOWER) + "." + rnd(5, LOWER) + ".acc-" + rnd(14, LOWER) + "." + rnd(60, LOWER), "sd" + "k-" + UUID, "AT" + "TA" + rnd(64, HEX), "rn" + "d_" + rnd(32), "cs" + "k-" + rnd(48, LOWER),
    "live" + "_" + rnd(35, HEX), "ess" + "u_" + rnd(60), "nyk" + "_v0_" + rnd(64), "jin" + "a_" + rnd(60), "pylf" + "_v1_us_" + rnd(43), "mls" + "n." + rnd(64, HEX), "AV" + "NS_" + rnd(19),
    "AKI" + "D" + rnd(32), "bce" + "-v3/ALTAK-" + rnd(21) + "/" + rnd(40, HEX), "00" + "D" + rnd(15) + "!" + rnd(96), "Astra" + "CS:" + rnd(24) + ":" + rnd(64, HEX), "packagist" + "_ort_" + rnd(64, HEX),
    "A" + "3-" + "-".join((rnd(6, UPPER), rnd(11, UPPER), rnd(5, UPPER), rnd(5, UPPER), rnd(5, UPPER))), "IGQ" + "V" + rnd(150), "sec" + "-c-" + rnd(40), "polar" + "_oat_" + rnd(40),
    "secret" + "-live-" + rnd(36), "zpk" + "a_" + rnd(32, HEX) + "_" + rnd(8, HEX), "tr_" + "prod_" + rnd(20), "dnsimple" + "_a_" + rnd(32), "access_token" + "$production$" + rnd(16, LOWER) + "$" + rnd(32, HEX),
    "fo" + "1_" + rnd(43), "AQ" + "." + "Ab" + rnd(48), "gl" + "rtr-" + rnd(20), "vc" + "p_" + rnd(56), "rp" + "a_" + rnd(43, UPPER), "mdb_sa" + "_sk_" + rnd(40), "sk" + "-lf-" + UUID, "slk" + "_" + rnd(64, HEX),
]
LOOK_ALIKES = [*r"""
the password is wrong
the password is required
the password is case-sensitive and must have 12 characters
the password is empty
the password is the same as staging
the password is hashed with bcrypt and a cost of 12
the password is hashed with SHA256
the password is base64-encoded
the password is 2fa-protected
the password is stored in 1Password
the password is incorrect!
Is the password wrong?
the passphrase is stored in 1Password
password reset for user bob
password reset link expired after 24h
a password of 16 characters
the password policy is 12 characters or more
the password hash is 5f4dcc3b5aa765d61d8327deb882cf99
the password field is #password1
the password prompt is hidden
use password authentication with OAuth2 or SAML
passwords in PKCS#12 files
Add MD5-based passwords to 'openssl passwd' (option '-1').
run with --password from the keychain
unzip -P needs a password
unzip -P $PASS a.zip
mkdir -p build2026x/out
rsync -P file2026x host:
docker run -p8080:80 -p 443:443 x
cp -p a1b2c3 /tmp/x9y8
ssh -p 2222 host1
nmap -p22,80 host
tar -k -xf file2026.tar
openssl passwd -6
7z x archive2026.7z -pdf
curl -u $USER:$PASS https://x
log in with GitHub or Google
login with your account: https://x.org/login1
log in as root: systemctl restart nginx
sign in as user/repo1
login: see docs/setup1.md
credentials: read from ~/.aws/credentials
the token is expired
the token is valid for 30d
the token is a JWT with RS256
the token for the session is null
the api key is missing
token bucket size is 100
the key is user:1234:profile
the key is F5
le mot de passe est oublié
mot de passe : à changer
le mot de passe doit avoir 12 caractères
Ce qui se passe : API2 répond
il passe 12h par jour
Passwort vergessen?
Passwort: mindestens 8 Zeichen
das Passwort ist falsch
la contraseña es obligatoria
contraseña: mínimo 8 caracteres
a senha é obrigatória
пароль неверный
пароль: не менее 8 символов
パスワード：未設定
パスワードは8文字以上です
パスワードはハッシュ化されます
密码：未设置
密码是必填项
비밀번호: 필수
비밀번호는 8자 이상이어야 합니다
clé API : manquante
password: *pw1
'password' => 'required|min:8|regex:/[a-z0-9]/'
password - min8chars
password is ROT13-encoded
pytest -k test_a1b2
wget -P dir2026x u
grep -P '\d{3}x' f
unzip -p a1b2.zip f
passwort zurücksetzen: Link1
the password is at least 8 chars
the password is the MD5 of user1
creds: see 1Password item 42
login with OAuth2/OIDC
パスワードを忘れた場合
密码长度为8位
비밀번호를 잊으셨나요?
password: !vault |
password: !Ref DbSecret
password: !!binary |
MasterUserPassword: !Sub "${DbSecret}"
secret: !GetAtt Db.Arn
token = token.strip()
if let token = timeObserverToken { remove(token) }
if apiKey == "" { return errNoKey }
url := base + "?api_key=" + apiKey
TOKEN: ${{ secrets.DEPLOY_TOKEN }}
tokenizationId: 'f865288c97ca4913887373728b8dfc4c'
org.slf4j:slf4j-api:2.0.6=default
//npm.pkg.github.com/:_authToken=${GITHUB_NPM_TOKEN}
SRC_URI[sha256sum] = "3f2a9bc1d4e5f60718293a4b5c6d7e8f90a1b2c33f2a9bc1d4e5f60718293a4b"
"integrity": "sha512-GDHVin2EJ9PGJ33VMGlqtPcvUlY+pkTbaWs4jWv8oBaEK8UUBzS5ZpEc4xi7Xp5vIXnVsCSLKNC6bgvR9X/AoQ=="
{file = "attrs-23.1.0-py3-none-any.whl", hash = "sha256:1f28b4522cdc2fb4256ac1a020c78acf9cba2c6b461ccd2c126f3aa8e8335d04"},
golang.org/x/text v0.3.7 h1:olpwvP2KacW1ZWvsR7uQhoyTYvKAupfQrRGBFM352Gk=
    --hash=sha256:1f28b4522cdc2fb4256ac1a020c78acf9cba2c6b461ccd2c126f3aa8e8335d04 \
"resolved": "https://registry.npmjs.org/x/-/x-1.0.0.tgz#a94a8fe5ccb19ba61c4c0873d391e987982fbbd3"
checksum = "3f2a9bc1d4e5f60718293a4b5c6d7e8f90a1b2c33f2a9bc1d4e5f60718293a4b"
image: x.org/app@sha256:3f2a9bc1d4e5f60718293a4b5c6d7e8f90a1b2c33f2a9bc1d4e5f60718293a4b
id: 123e4567-e89b-12d3-a456-426614174000
password = get_password(user1)
password = row["password1"]
password = config.password2
password: str = Field(..., min_length=8)
password = user_password1
"password": "password-field-1"
if password and len(password) > 8:
for token in tokens1: yield token
rep += f"\tpassword {attrs[2]}\n"
my %valid = qw/trust 1 md5 1 password 1 krb5 1 ident 1/;
winreg.KEY_READ | winreg.KEY_WOW64_32KEY
#define TLS1_RFC_PSK_WITH_NULL_SHA "TLS_PSK_WITH_NULL_SHA"
"Resource":"arn:aws:secretsmanager:*:*:secret:amazon-bedrock-ide/*"
arn:*:kms:*:*:key/alias1
12:30:5432:aa:bb
PATH=$HOME/bin:$PATH
export PATH=/usr/bin:$(go env GOPATH)/bin
pat-a-cake-pat-a-cake-bakers-man-2026
re_compile_pattern_with_a_long_name
access-control-allow-origin-2026
test_password_reset_token_expires_after_24h
sha256sum of the file
the sdk-version-2026-build-1234 tag
{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4","e":"AQAB"}
kind: ConfigMap
a\tTRUE\tb
the pass is 2.34s long
first pass is test2run
a step in the journal, 2(4):33-66, 10.21314/JCR.2006.057: credit risk
""".strip().split("\n"), f"{DASHES}END RSA PRIVATE KEY{DASHES}", f"a text\n{DASHES}END RSA PRIVATE KEY{DASHES}"]


def shapes() -> list[tuple[str, str]]:
    """(a text with a secret, the secret)."""
    commands = [(text.replace("%%", "%").replace("%s", secret) if "%%" in text else text % secret, secret)
                for secret in ("Open" + "Pass2026x", "kV9#mTq" + "2zL") for text in COMMANDS]
    return [(text % secret, secret) for text, secret in TOLD] + commands \
        + [(text.replace("%s", secret), secret) for text, secret in FILES] + [(block, PEM_BODY[:64]) for block in BLOCKS] \
        + [(f"try {token} now", token.split("/", 3)[-1] if "://" in token else token) for token in VENDORS]


class AsWrittenTest(unittest.TestCase):
    def test_secrets_go_and_stay_gone(self) -> None:
        kept = [text for text, secret in shapes() if secret in rlm.redact(text)]
        self.assertEqual(kept, [])
        for text, _ in shapes():
            clean = rlm.redact(text)
            self.assertEqual(rlm.redact(clean), clean, text)

    def test_they_go_in_the_middle_of_other_text_and_inside_json(self) -> None:
        for text, secret in shapes():
            for framed in (f"before\n{text}\nafter", f"before\\n{text}\\nafter"):
                if text.count("\n") < 2 or "\\n" not in framed:
                    self.assertNotIn(secret, rlm.redact(framed), framed)
            self.assertNotIn(secret, str(rlm.redact_value({"content": [{"text": text}]})))

    def test_tokens_go_behind_and_before_any_sign_and_letters_of_another_script(self) -> None:
        kept = []
        for token in VENDORS:
            secret = token.split("/", 3)[-1] if "://" in token else token
            for before in ("", "X=", "a:", "/", "$", "*", "+", "!", "~", "%20", "%22", "\u2192", "\u306f", "\xe9", "12\u2192", '"'):
                for after in ("", "\xe9", "\u3067\u3059", '"', "'", ",", "\u3002", ")"):
                    text = f"it is {before}{token}{after} so"
                    kept += [text] if secret in rlm.redact(text) else []
        self.assertEqual(kept, [])

    def test_look_alikes_stay(self) -> None:
        self.assertEqual([(text, rlm.redact(text)) for text in LOOK_ALIKES if rlm.redact(text) != text], [])

    def test_only_the_secret_goes(self) -> None:
        self.assertEqual(rlm.redact(f"My password is {Q}."), "My password is [redacted:password].")
        self.assertEqual(rlm.redact(f"パスワードは「{Q}」です"), "パスワードは「[redacted:password]」です")
        self.assertEqual(rlm.redact(f"unzip -P {Q} a.zip"), "unzip -P [redacted:password] a.zip")
        self.assertEqual(rlm.redact(f"login with admin / {Q} please"), "login with admin / [redacted:password] please")

    def test_the_private_parts_of_a_key_in_json_go_from_values(self) -> None:
        key = {"kty": "EC", "x": rnd(43), "d": rnd(43)}
        self.assertEqual(rlm.redact_value({"jwk": key}), {"jwk": {**key, "d": "[redacted:key]"}})

    def test_clues_of_a_batch_serve_for_each_of_its_texts(self) -> None:
        texts = [text for text, _ in shapes()] + LOOK_ALIKES
        found = rlm.clues("\n".join(texts), True)
        self.assertEqual([rlm.cleaned(text, found) for text in texts], [rlm.redact(text) for text in texts])


if __name__ == "__main__":
    unittest.main()

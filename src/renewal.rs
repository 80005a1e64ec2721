//! Keys and certificates in files, and their renewal: whoever runs the gateway changes the files, and it takes what is in them then.

use crate::auth::{Gate, Keys};
use crate::config::{self, ConfigError, Problem};
use crate::listener::{Pem, Tls};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time between two looks at the files. Their content is compared: a Secret of Kubernetes changes by links to other folders.
const INTERVAL: Duration = Duration::from_secs(1);

/// Who is let in, and in what TLS, with the files that say so.
#[derive(Debug)]
pub struct Credentials {
    /// Lets callers in.
    pub gate: Gate,
    /// What both listeners speak; none for plain text.
    pub tls: Option<Tls>,
    /// The file of keys, and what was in it when it was read last.
    keys: Option<(PathBuf, Vec<u8>)>,
    /// The files of TLS, and what was in them then.
    pem: Option<(config::Tls, Pem)>,
}

impl Credentials {
    /// Reads the files that are configured. Fails with everything that is wrong with them.
    pub fn read(config: &config::Config) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let keys = keys(&config.auth).unwrap_or_else(|found| {
            problems.extend(found);
            None
        });
        let tls = tls(&config.tls).unwrap_or_else(|found| {
            problems.extend(found);
            None
        });
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let (gate, keys) = match keys {
            None => (Gate::open(), None),
            Some((keys, watched)) => (Gate::keyed(keys), Some(watched)),
        };
        let (tls, pem) = tls.unzip();
        Ok(Self { gate, tls, keys, pem })
    }

    /// Looks at the files for ever, and takes what they hold when it has changed. What is wrong is logged, and changes nothing.
    pub async fn renew(self) {
        let Self { gate, tls, keys, pem } = self;
        let keys = async {
            let Some((file, content)) = keys else { return };
            let renewed = |bytes: &Vec<u8>| {
                let keys = parsed(&file, bytes).map_err(|problems| ConfigError { problems }.to_string())?;
                gate.renew(keys);
                Ok(())
            };
            follow("keys", file.clone(), |file| read(file), content, renewed).await;
        };
        let pem = async {
            let (Some((files, content)), Some(tls)) = (pem, tls) else { return };
            follow("certificates", files, pem_of, content, |pem| tls.renew(pem).map_err(|error| error.to_string())).await;
        };
        tokio::join!(keys, pem);
    }
}

/// Calls `renew` with what is in files, whenever that is another content than before.
async fn follow<F, T>(
    what: &str,
    files: F,
    read: fn(&F) -> Result<T, Problem>,
    mut content: T,
    renew: impl Fn(&T) -> Result<(), String>,
) where
    F: Clone + Send + 'static,
    T: PartialEq + Send + 'static,
{
    // So that a trouble that stays is told once.
    let mut trouble = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let looked = files.clone();
        let found = tokio::task::spawn_blocking(move || read(&looked)).await;
        let told = match found {
            Ok(Ok(found)) if found == content => None,
            Ok(Ok(found)) => {
                content = found;
                let renewed = renew(&content);
                if renewed.is_ok() {
                    tracing::info!(what, "renewed");
                }
                renewed.err()
            }
            Ok(Err(problem)) => Some(problem.to_string()),
            Err(failed) => Some(failed.to_string()),
        };
        if told.is_some() && told != trouble {
            tracing::error!(what, problem = told, "cannot be renewed; what was there before goes on");
        }
        trouble = told;
    }
}

/// What files are configured for, if they are, and the files with their content.
type Read<T, F, C> = Result<Option<(T, (F, C))>, Vec<Problem>>;

/// The keys, if a file of keys is configured.
fn keys(config: &config::Auth) -> Read<Keys, PathBuf, Vec<u8>> {
    let file = &config.keys_file;
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let content = read(file).map_err(|problem| vec![Problem { subject: "auth.keys_file".into(), ..problem }])?;
    Ok(Some((parsed(file, &content)?, (file.clone(), content))))
}

fn parsed(file: &Path, bytes: &[u8]) -> Result<Keys, Vec<Problem>> {
    let file = &*file.display().to_string();
    let text = std::str::from_utf8(bytes).map_err(|_| vec![Problem::new(file, "is no UTF-8")])?;
    Keys::read(text).map_err(|problems| {
        let problem = |problem: crate::auth::Problem| match problem.path.as_str() {
            "" => Problem::new(file, problem.sentence),
            path => Problem { origin: Some(file.to_owned()), ..Problem::new(path, problem.sentence) },
        };
        problems.into_iter().map(problem).collect()
    })
}

/// TLS, if a certificate is configured.
fn tls(config: &config::Tls) -> Read<Tls, config::Tls, Pem> {
    if config.certificate.as_os_str().is_empty() {
        return Ok(None);
    }
    let content = pem_of(config).map_err(|problem| vec![problem])?;
    let tls = Tls::new(&content).map_err(|error| vec![Problem::new("tls", format!("cannot be spoken: {error}"))])?;
    Ok(Some((tls, (config.clone(), content))))
}

/// The certificate, its key, and the authorities if there are any.
fn pem_of(config::Tls { certificate, key, client_ca }: &config::Tls) -> Result<Pem, Problem> {
    let client_ca = Some(client_ca).filter(|file| !file.as_os_str().is_empty());
    Ok(Pem { certificate: read(certificate)?, key: read(key)?, client_ca: client_ca.map(|file| read(file)).transpose()? })
}

fn read(file: &Path) -> Result<Vec<u8>, Problem> {
    fs::read(file).map_err(|error| Problem::new(file.display().to_string(), format!("cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Key;
    use crate::config::Config;
    use ::http::{HeaderMap, HeaderValue, header};

    fn shows(key: &Key) -> HeaderMap {
        let value = HeaderValue::from_str(&format!("Bearer {}", key.reveal())).unwrap();
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    }

    fn table(key: &Key) -> String {
        format!("[[keys]]\nname = \"a\"\nrole = \"admin\"\nsha256 = [\"{}\"]\n", key.digest())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_right_is_taken_and_what_is_wrong_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.toml");
        let [former, latter] = [Key::fresh().unwrap(), Key::fresh().unwrap()];
        fs::write(&file, table(&former)).unwrap();
        let config =
            Config { auth: config::Auth { keys_file: file.clone(), insecure: false, cleartext: false }, ..Config::default() };
        let credentials = Credentials::read(&config).unwrap();
        let gate = credentials.gate.clone();
        let _renewal = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(credentials.renew()));
        let looked = || tokio::time::sleep(INTERVAL * 3);

        for wrong in ["[[keys]]\nname = 1\n", "\u{0}"] {
            fs::write(&file, wrong).unwrap();
            looked().await;
            assert!(gate.caller(&shows(&former)).is_ok());
        }
        fs::remove_file(&file).unwrap();
        looked().await;
        assert!(gate.caller(&shows(&former)).is_ok());
        fs::write(&file, table(&latter)).unwrap();
        looked().await;
        assert!(gate.caller(&shows(&latter)).is_ok() && gate.caller(&shows(&former)).is_err());
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.toml");
        fs::write(&file, "[[keys]]\nname = \"a\"\nrole = \"root\"\nsha256 = [\"cim_secret\"]\n").unwrap();
        let auth = config::Auth { keys_file: file.clone(), insecure: false, cleartext: false };
        let missing = folder.path().join("missing.pem");
        let tls = config::Tls { certificate: missing.clone(), key: missing.clone(), client_ca: PathBuf::new() };
        let told = Credentials::read(&Config { auth, tls, ..Config::default() }).unwrap_err().to_string();
        let told = told.replace(&folder.path().display().to_string(), "FOLDER");
        insta::assert_snapshot!(told, @"
        keys[0].role needs one of connector, bot, agent, admin (FOLDER/keys.toml)
        keys[0].sha256[0] needs the SHA-256 of a key: 64 hexadecimal digits (FOLDER/keys.toml)
        FOLDER/missing.pem cannot be read: No such file or directory (os error 2)
        ");
    }
}

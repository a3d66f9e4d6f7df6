//! Requests: to whom the token goes, what is tried again, and what an answer's refusal means.

use std::io::Read;
use std::time::Duration;

use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::listing::{Digest, RemoteFile};
use super::retry::{Failure, Patience, interrupted};
use super::{Hub, Kind, Repo};
use crate::checkpoint::Error;

/// More redirections than any download has.
const MAX_REDIRECTS: usize = 5;

/// Silence for so long is an interruption.
const SILENCE: Duration = Duration::from_secs(30);

/// Asks one hub for the files of one repository.
pub(super) struct Client<'h> {
    pub(super) hub: &'h Hub,
    pub(super) repo: &'h Repo,
    agent: Agent,
}

/// What is asked of an address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Only what the endpoint says of a file.
    Head,
    /// The content from a byte on.
    From(u64),
}

impl<'h> Client<'h> {
    /// # Errors
    /// The endpoint is no address.
    pub(super) fn new(hub: &'h Hub, repo: &'h Repo) -> Result<Self, Error> {
        let endpoint: Uri = hub.endpoint.parse().map_err(|e| {
            repo.error(format!(
                "HF_ENDPOINT is no address ({e}); unset it or set it right"
            ))
        })?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let mut config = Agent::config_builder()
            .tls_config(tls)
            .user_agent(concat!("slim/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // Followed here, where it is known which hosts may see the token.
            .max_redirects(0)
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE));
        // What is on this machine is not behind a proxy.
        if ["localhost", "127.0.0.1", "[::1]"].contains(&endpoint.host().unwrap_or_default()) {
            config = config.proxy(None);
        }
        let agent = config.build().new_agent();
        Ok(Self { hub, repo, agent })
    }

    /// The content at a path of the endpoint, no longer than `limit`.
    ///
    /// # Errors
    /// What the server refuses, or what goes wrong again and again.
    pub(super) fn text(&self, path: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let mut patience = Patience::of(self.hub);
        loop {
            let read = self.get(path, Ask::From(0)).and_then(|(_, answer)| {
                let mut text = Vec::new();
                let mut body = answer.into_body().into_reader().take(limit);
                let read = body.read_to_end(&mut text);
                read.map(|_| text).map_err(|e| interrupted(&e))
            });
            match read {
                Ok(text) => return Ok(text),
                Err(failure) => patience.wait(self.repo, failure)?,
            }
        }
    }

    /// Size and digest of a file, from the headers of its download.
    ///
    /// # Errors
    /// Those of [`Client::text`]; a server that names neither.
    pub(super) fn headers_of(&self, commit: &str, name: &str) -> Result<RemoteFile, Error> {
        let mut patience = Patience::of(self.hub);
        loop {
            match self.get(&self.resolve(commit, name), Ask::Head) {
                Err(failure) => patience.wait(self.repo, failure)?,
                Ok((linked, answer)) => {
                    let tag = linked.digest.or_else(|| etag(answer.headers(), "etag"));
                    let length = || header(answer.headers(), "content-length")?.parse().ok();
                    let size = linked.size.or_else(length);
                    let known = tag
                        .zip(size)
                        .map(|(digest, size)| RemoteFile { size, digest });
                    return known.ok_or_else(|| {
                        self.repo.error(format!(
                            "the server names no digest of {name}, so it could not be checked; \
                             fetch it yourself and give the folder"
                        ))
                    });
                }
            }
        }
    }

    /// The path of a file's content.
    pub(super) fn resolve(&self, commit: &str, name: &str) -> String {
        let datasets = match self.repo.kind {
            Kind::Model => "",
            Kind::Dataset => "/datasets",
        };
        format!(
            "{datasets}/{}/resolve/{commit}/{}",
            self.repo.id,
            encoded(name, true)
        )
    }

    /// One request, with what the endpoint itself said of the file that it linked to. Answers are
    /// of status 200, 206 and 416 (the latter two only to a start), or to [`Ask::Head`] a
    /// redirection that said enough.
    pub(super) fn get(&self, path: &str, ask: Ask) -> Result<(Linked, Response<Body>), Failure> {
        let mut url = format!("{}{path}", self.hub.endpoint);
        let mut linked = Linked::default();
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.send(&url, ask)?;
            if self.is_own(&url) && linked.digest.is_none() {
                linked = Linked::of(answer.headers());
            }
            match answer.status().as_u16() {
                200 => return Ok((linked, answer)),
                206 | 416 if ask != Ask::From(0) => return Ok((linked, answer)),
                301 | 302 | 303 | 307 | 308 => {
                    // Signed addresses of files often know no HEAD.
                    if ask == Ask::Head && linked.digest.is_some() && linked.size.is_some() {
                        return Ok((linked, answer));
                    }
                    url = self.redirected(&url, &answer)?;
                }
                _ => return Err(self.refused(&url, &answer)),
            }
        }
        Err(Failure::Final(self.repo.error(format!(
            "{} sends from one address to the next without end",
            self.hub.endpoint
        ))))
    }

    fn send(&self, url: &str, ask: Ask) -> Result<Response<Body>, Failure> {
        let mut request = match ask {
            Ask::Head => self.agent.head(url),
            Ask::From(_) => self.agent.get(url),
        };
        request = request.header("accept-encoding", "identity");
        let token = self.hub.token.as_ref().filter(|_| self.is_own(url));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Ask::From(start @ 1..) = ask {
            request = request.header("range", format!("bytes={start}-"));
        }
        request.call().map_err(|error| {
            let why = format!("{} cannot be reached ({error})", host(url));
            match error {
                ureq::Error::Io(_)
                | ureq::Error::Timeout(_)
                | ureq::Error::HostNotFound
                | ureq::Error::ConnectionFailed
                | ureq::Error::Protocol(_) => Failure::Passing(why, None),
                _ => Failure::Final(self.repo.error(format!(
                    "{why}. Check the network, the proxy and HF_ENDPOINT, or set HF_HUB_OFFLINE=1 \
                     to take what the cache has"
                ))),
            }
        })
    }

    /// Whether an address is the endpoint's own: same protocol, host and port.
    fn is_own(&self, url: &str) -> bool {
        let origin = |url: &str| {
            let uri: Uri = url.parse().ok()?;
            let scheme = uri.scheme_str()?.to_owned();
            let port = uri.port_u16().unwrap_or(match scheme.as_str() {
                "https" => 443,
                _ => 80,
            });
            Some((scheme, uri.host()?.to_ascii_lowercase(), port))
        };
        origin(url).is_some() && origin(url) == origin(&self.hub.endpoint)
    }

    fn redirected(&self, from: &str, answer: &Response<Body>) -> Result<String, Failure> {
        let location = header(answer.headers(), "location").unwrap_or_default();
        let secure = from.starts_with("https://");
        let scheme_end = from.find("://").map_or(0, |at| at + 3);
        let host_end = from.get(scheme_end..).and_then(|rest| rest.find('/'));
        let origin = from.get(..host_end.map_or(from.len(), |at| scheme_end + at));
        match origin {
            Some(origin) if location.starts_with('/') && !location.starts_with("//") => {
                Ok(format!("{origin}{location}"))
            }
            _ if location.starts_with("https://") => Ok(location.to_owned()),
            _ if location.starts_with("http://") && !secure => Ok(location.to_owned()),
            _ => Err(Failure::Final(self.repo.error(format!(
                "{} sends on to {location:?}, where slim does not follow",
                host(from)
            )))),
        }
    }

    /// What a refusal means, and what to do.
    fn refused(&self, url: &str, answer: &Response<Body>) -> Failure {
        let status = answer.status();
        let headers = answer.headers();
        let code = header(headers, "x-error-code").unwrap_or_default();
        let own = self.is_own(url);
        let final_ = |problem: String| Failure::Final(self.repo.error(problem));
        let token = match self.hub.token {
            Some(_) => "check that the token in HF_TOKEN may read it",
            None => "if it is private, set HF_TOKEN to a token that may read it",
        };
        match (status.as_u16(), code) {
            (_, "GatedRepo") => final_(format!(
                "its owners ask for consent: accept their terms at {}/{}{} and set HF_TOKEN to a \
                 token of that account",
                self.hub.endpoint,
                match self.repo.kind {
                    Kind::Model => "",
                    Kind::Dataset => "datasets/",
                },
                self.repo.id
            )),
            (_, "RevisionNotFound") => final_(format!(
                "has no revision '{}'; see its branches and tags on the server",
                self.repo.revision
            )),
            (404, "EntryNotFound") => final_(format!(
                "has no file {}",
                url.rsplit('/').next().unwrap_or(url)
            )),
            (429 | 500..=599, _) => {
                let pause = header(headers, "retry-after").and_then(|s| s.trim().parse().ok());
                let why = format!("{} answers {status}", host(url));
                Failure::Passing(why, pause.map(Duration::from_secs))
            }
            // The servers that files lie on sign their addresses for a while.
            (401 | 403, _) if !own => {
                Failure::Passing(format!("{} answers {status}", host(url)), None)
            }
            (401 | 404, _) => final_(format!(
                "{} knows no such repository; check the name, and {token}",
                self.hub.endpoint
            )),
            (403, _) => final_(format!("{} refuses it (403): {token}", self.hub.endpoint)),
            _ => final_(format!("{} answers {}", host(url), said(status))),
        }
    }
}

/// What the endpoint says of a file that lies elsewhere.
#[derive(Default)]
pub(super) struct Linked {
    pub(super) digest: Option<Digest>,
    size: Option<u64>,
}

impl Linked {
    fn of(headers: &HeaderMap) -> Self {
        Self {
            digest: etag(headers, "x-linked-etag"),
            size: header(headers, "x-linked-size").and_then(|size| size.parse().ok()),
        }
    }
}

pub(super) fn header<'m>(headers: &'m HeaderMap, name: &str) -> Option<&'m str> {
    headers.get(name)?.to_str().ok()
}

fn etag(headers: &HeaderMap, name: &str) -> Option<Digest> {
    let tag = header(headers, name)?;
    Digest::parse(tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"'))
}

/// The host of an address: addresses of files carry signatures that are nobody's business.
fn host(url: &str) -> String {
    let uri = url.parse::<Uri>().ok();
    let authority = uri.as_ref().and_then(Uri::authority);
    authority.map_or_else(|| "the server".to_owned(), |a| a.host().to_owned())
}

fn said(status: StatusCode) -> String {
    format!("{status}, which slim did not expect; try again later")
}

/// A text as a path of an address may carry it; with `slashes`, these stay.
pub(super) fn encoded(text: &str, slashes: bool) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b) || slashes && b == b'/';
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match plain(byte) {
            true => out.push(byte.into()),
            false => out += &format!("%{byte:02X}"),
        }
    }
    out
}

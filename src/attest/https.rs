//! HTTP/1.1 over pinned TLS, on one connection that is kept open. `ureq` implements HTTP and `rustls` TLS;
//! this file joins and bounds them.
//!
//! It follows no redirect, uses no proxy from the environment and decompresses nothing. Sizes and times are
//! limited.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::config::Config;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, TcpConnector, Transport,
    TransportAdapter, time,
};
use ureq::{Agent, Body};

use super::http::{Answer, Call, Http, HttpError};
use super::resolver::ServerResolver;
use super::server::{Pin, Server};
use super::settings::Settings;
use super::tls;

/// A connection to one key broker.
pub(super) struct Https {
    agent: Agent,
    base: String,
    deadline: Instant,
}

impl Https {
    /// Prepares a connection; sends nothing yet.
    pub(super) fn new(server: &Server, settings: &Settings, deadline: Instant) -> Result<Self, HttpError> {
        let config = Config::builder()
            .http_status_as_error(false)
            .https_only(is_tls(&server.pin))
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A TPM may need time for the quote between two calls.
            .max_idle_age(settings.deadline_seconds.duration())
            .max_response_header_size(HEADER_LIMIT)
            .user_agent(concat!("cvm-unlock/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(settings.connect_timeout_seconds.duration()))
            .timeout_resolve(Some(settings.connect_timeout_seconds.duration()))
            .build();
        let tls = if is_tls(&server.pin) {
            let config = tls::client_config(&server.pin, settings.earliest());
            Some(Arc::new(config.map_err(|error| HttpError::Tls(error.to_string()))?))
        } else {
            None
        };
        let name = ServerName::try_from(server.url.host().to_owned())
            .map_err(|_| HttpError::Malformed("the host is no name for a certificate".to_owned()))?;
        let connector = ().chain(TcpConnector::default()).chain(TlsConnector { tls, name });
        let agent = Agent::with_parts(config, connector, ServerResolver::new(&server.url));
        Ok(Self { agent, base: server.url.to_string(), deadline })
    }

    fn left(&self) -> Result<Duration, HttpError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(HttpError::TimedOut("deadline".to_owned())) } else { Ok(left) }
    }
}

impl Http for Https {
    fn send(&mut self, call: &Call<'_>) -> Result<Answer, HttpError> {
        let url = format!("{}{}", self.base, call.path);
        let left = Some(self.left()?);
        let cookie = call.cookie.map(super::protocol::SessionCookie::header);
        let response = match &call.body {
            Some(body) => {
                let mut request = self.agent.post(&url).header("content-type", "application/json");
                if let Some(cookie) = cookie {
                    request = request.header("cookie", cookie);
                }
                request.config().timeout_global(left).build().send(body)
            }
            None => {
                let mut request = self.agent.get(&url);
                if let Some(cookie) = cookie {
                    request = request.header("cookie", cookie);
                }
                request.config().timeout_global(left).build().call()
            }
        };
        answer(response.map_err(classify)?, call.limit)
    }
}

fn answer(mut response: ureq::http::Response<Body>, limit: u64) -> Result<Answer, HttpError> {
    let status = response.status().as_u16();
    if (300..400).contains(&status) {
        return Err(HttpError::Redirect(status));
    }
    let headers = response.headers().get_all("set-cookie").iter();
    let cookies = headers.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
    let body = response.body_mut().with_config().limit(limit).read_to_vec().map_err(classify)?;
    Ok(Answer { status, cookies, body })
}

/// Converts ureq's errors.
fn classify(error: ureq::Error) -> HttpError {
    match error {
        ureq::Error::Timeout(which) => HttpError::TimedOut(which.to_string()),
        ureq::Error::Io(error) => {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(tls @ rustls::Error::InvalidCertificate(_)) => HttpError::Certificate(tls.to_string()),
                Some(tls) => HttpError::Tls(tls.to_string()),
                None => HttpError::Unreachable(error),
            }
        }
        error @ (ureq::Error::HostNotFound | ureq::Error::ConnectionFailed) => {
            HttpError::Unreachable(std::io::Error::other(error.to_string()))
        }
        ureq::Error::BodyExceedsLimit(limit) => HttpError::TooLarge(limit),
        ureq::Error::LargeResponseHeader(..) => HttpError::TooLarge(HEADER_BYTES),
        ureq::Error::TooManyRedirects | ureq::Error::RedirectFailed => HttpError::Redirect(300),
        error => HttpError::Malformed(error.to_string()),
    }
}

const fn is_tls(pin: &Pin) -> bool {
    match pin {
        Pin::Ca(_) | Pin::Spki(_) => true,
        #[cfg(feature = "test-double")]
        Pin::Nothing => false,
    }
}

/// Runs TLS on a TCP connection.
struct TlsConnector {
    tls: Option<Arc<ClientConfig>>,
    /// The name that the server's certificate must carry.
    name: ServerName<'static>,
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let tcp = chained.ok_or(ureq::Error::ConnectionFailed)?;
        let Some(tls) = &self.tls else {
            return plain(tcp);
        };
        if !details.needs_tls() {
            return Err(ureq::Error::TlsRequired);
        }
        let mut connection = ClientConnection::new(Arc::clone(tls), self.name.clone()).map_err(io)?;
        let tcp: Box<dyn Transport> = Box::new(tcp);
        let mut socket = TransportAdapter::new(tcp, details.current_time.clone());
        socket.set_timeout(left_to_connect(details));
        // Completes the handshake here, so that the timeout for connecting covers it.
        connection.complete_io(&mut socket)?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { buffers, stream: StreamOwned::new(connection, socket) })))
    }
}

/// What TCP left of the timeout for connecting: a server that is slow at both must not take it twice.
fn left_to_connect(details: &ConnectionDetails<'_>) -> NextTimeout {
    let mut timeout = details.timeout;
    if let (time::Instant::Exact(started), time::Instant::Exact(now), time::Duration::Exact(limit)) =
        (details.now, (details.current_time)(), timeout.after)
    {
        let spent = now.saturating_duration_since(started);
        timeout.after = time::Duration::Exact(limit.saturating_sub(spent));
    }
    timeout
}

/// Refuses to send anything without TLS.
#[cfg(not(feature = "test-double"))]
fn plain<In: Transport>(_tcp: In) -> Result<Option<Either<In, TlsTransport>>, ureq::Error> {
    Err(ureq::Error::TlsRequired)
}

#[cfg(feature = "test-double")]
fn plain<In: Transport>(tcp: In) -> Result<Option<Either<In, TlsTransport>>, ureq::Error> {
    Ok(Some(Either::A(tcp)))
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConnector")
    }
}

/// A TLS connection in ureq's form.
struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

fn io(error: rustls::Error) -> ureq::Error {
    ureq::Error::Io(std::io::Error::other(error))
}

/// Bytes of all headers of an answer.
const HEADER_LIMIT: usize = 16 << 10;
const HEADER_BYTES: u64 = 16 << 10;

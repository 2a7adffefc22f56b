//! One request and its answer, as protocols between programs need them: any method, and no redirects.

use super::{FetchError, Fetcher, checked, failed, shown};
use reqwest::Url;

impl Fetcher {
    /// Sends a request as it is, and gives the answer, whatever its status. The address is judged as ever.
    ///
    /// # Errors
    /// When the address is not to be asked, or what comes is too much or too slow.
    pub async fn exchange(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, FetchError> {
        let address = request.uri().to_string();
        let all = async {
            let url = checked(Url::parse(&address), &address)?;
            if url.scheme() != "https" && !self.allow_private {
                return Err(FetchError::NotAnAddress(shown(&address), "only https:// will do here".into()));
            }
            let (parts, body) = request.into_parts();
            let client = self.client(&url).await?;
            let asked = client.request(parts.method, url.clone()).headers(parts.headers).body(body);
            let answer = asked.send().await.map_err(|e| failed(&url, &e))?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let mut whole = http::Response::new(self.body(answer, &url).await?);
            (*whole.status_mut(), *whole.headers_mut()) = (status, headers);
            Ok(whole)
        };
        let in_time = tokio::time::timeout(self.longest, all).await;
        in_time.map_err(|_| FetchError::TooSlow(shown(&address), self.longest.as_secs()))?
    }
}

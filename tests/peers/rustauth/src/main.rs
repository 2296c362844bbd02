//! A RustAuth service on loopback, as its documentation builds one: sessions and rate limits on a
//! server, users in its own memory. It prints its address once it listens.

use std::{env, error::Error, net::SocketAddr};

use rustauth::db::MemoryAdapter;
use rustauth::{RustAuth, RustAuthOptions};
use rustauth_axum::{RustAuthAxumExt, RustAuthAxumOptions};
use rustauth_fred::{FredOptions, FredStores};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<String> = env::args().skip(1).collect();
    let [redis, prefix, secret] = given.as_slice() else {
        return Err("give the URL of the server, the prefix of keys and the secret".into());
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let mut options = FredOptions::default();
    options.secondary_storage.key_prefix = prefix.clone();
    options.rate_limit.key_prefix = prefix.clone();
    let stores = FredStores::connect_with_options(redis, options).await?;
    let options = RustAuthOptions::new()
        .base_url(format!("{url}/api/auth"))
        .secret(secret)
        .email_password(rustauth::options::EmailPasswordOptions::new().enabled(true));
    let auth = RustAuth::builder()
        .options(stores.apply_to_options(options))
        .adapter(MemoryAdapter::new())
        .build()
        .await?;
    let app = auth.mount_at_base_path(RustAuthAxumOptions::default())?;
    println!("{url}");
    axum::serve(
        listener,
        app.into_make_service_with_connect_info::<SocketAddr>(),
    )
    .await?;
    Ok(())
}

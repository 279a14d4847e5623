//! Print COUNT messages of a queue: `receive ADDR ENDPOINT KEY_ID COUNT`, the key in `FOREBAY_KEY`.
use client::{Credentials, FetchOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, addr, endpoint, key_id, count] = &arguments[..] else {
        return Err("ADDR ENDPOINT KEY_ID COUNT".into());
    };
    let credentials = Credentials::key(endpoint, key_id.parse()?, &std::env::var("FOREBAY_KEY")?)?;
    let mut receiver = client::connect(addr, credentials)
        .await?
        .receiver(FetchOptions::default())?;
    for _ in 0..count.parse::<u64>()? {
        let Some(delivery) = receiver.next().await else {
            break;
        };
        let delivery = delivery?;
        println!("{}", String::from_utf8_lossy(&delivery.body));
        receiver.accept_through(&delivery).await?;
    }
    Ok(receiver.close().await?)
}

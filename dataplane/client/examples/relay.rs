//! Pass COUNT messages on: `relay ADDR FROM KEY_ID TO KEY_ID CHANNEL COUNT`, keys in `FOREBAY_KEY_FROM` and `FOREBAY_KEY_TO`.
use client::{Credentials, FetchOptions, Message};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, addr, from, from_id, to, to_id, channel, count] = &arguments[..] else {
        return Err("ADDR FROM KEY_ID TO KEY_ID CHANNEL COUNT".into());
    };
    let from = Credentials::key(from, from_id.parse()?, &std::env::var("FOREBAY_KEY_FROM")?)?;
    let to = Credentials::key(to, to_id.parse()?, &std::env::var("FOREBAY_KEY_TO")?)?;
    let mut receiver = client::connect(addr, from)
        .await?
        .receiver(FetchOptions::default())?;
    let sender = client::connect(addr, to).await?.sender()?;
    for _ in 0..count.parse::<u64>()? {
        let Some(delivery) = receiver.next().await else {
            break;
        };
        let delivery = delivery?;
        let message = Message {
            headers: delivery.headers.clone(),
            ..Message::new(delivery.body.clone())
        };
        sender.send(channel, message).await?.await?;
        receiver.accept_through(&delivery).await?;
    }
    sender.close().await?;
    Ok(receiver.close().await?)
}

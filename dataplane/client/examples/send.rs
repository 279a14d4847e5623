//! Send the lines of stdin: `send ADDR ENDPOINT KEY_ID CHANNEL`, the key in `FOREBAY_KEY`.
use client::{Credentials, Message};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, addr, endpoint, key_id, channel] = &arguments[..] else {
        return Err("ADDR ENDPOINT KEY_ID CHANNEL".into());
    };
    let credentials = Credentials::key(endpoint, key_id.parse()?, &std::env::var("FOREBAY_KEY")?)?;
    let sender = client::connect(addr, credentials).await?.sender()?;
    for line in std::io::stdin().lines() {
        println!(
            "{}",
            sender.send(channel, Message::new(line?)).await?.await?
        );
    }
    Ok(sender.close().await?)
}

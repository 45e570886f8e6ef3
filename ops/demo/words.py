"""Words for the demo's firm. Addresses are at example.com, and telephone numbers are from the range reserved for films, so that
nobody gets mail or a call by accident."""

FIRST_NAMES = (
    "Ada Aisha Alan Amira Anders Anna Aroha Beatriz Ben Bogdan Carla Chidi Chloe Clara Daniel Dara Diego Elena Elif Emil "
    "Erik Esther Farah Felix Finn Freya Gita Grace Hana Hugo Ines Iris Isaac Jana Jonas Joris Julia Kaito Karim Kofi Lars "
    "Laura Leila Lena Liam Linh Louis Lucia Maja Malik Marta Mateo Mei Mina Nadia Nils Noah Nora Olga Omar Oskar Paula "
    "Petra Priya Rafael Rosa Ruben Sami Sara Selma Sofia Stefan Tara Theo Tomas Tove Vera Viktor Wanda Yara Yusuf Zoe"
).split()

LAST_NAMES = (
    "Abbott Adeyemi Albrecht Andersen Aydin Bailey Barros Bauer Becker Bergman Bianchi Brandt Byrne Castro Chen Costa Dahl "
    "Diallo Dubois Ekström Evans Farkas Ferrari Fischer Fontaine Garcia Grant Gruber Haddad Hansen Hartmann Hassan Hoffmann "
    "Holm Horvath Ivanov Jansen Jensen Kaplan Keller Khan Kowalski Krüger Lang Larsen Lindqvist Lopez Maier Marino Marlow "
    "Mensah Meyer Moreau Murphy Nakamura Novak Nowak Okafor Olsen Ortega Patel Pereira Petrov Popescu Quinn Reyes Richter "
    "Romano Rossi Sato Schmitt Schulz Silva Singh Sommer Svensson Takahashi Torres Vargas Vogel Walsh Weber Winter Yilmaz"
).split()

FIRMS = (
    "Alder Alpenblick Amber Arcadia Atlas Beacon Bergmann Birchwood Bluebell Brightwater Cedar Clearview Copperfield Corvus "
    "Delta Eastgate Elmwood Fairview Falkenstein Ferngrove Foxglove Granite Greenfield Halden Harbour Hawthorn Highland "
    "Ironbridge Juniper Kestrel Lakeside Larkspur Linden Lumen Maple Meridian Millstone Nordlicht Northgate Oakham Orchard "
    "Osprey Pinecrest Quayside Redstone Riverbend Rosewood Silverline Solstice Springfield Sterling Stonebridge Summit "
    "Sycamore Tamarind Thornbury Tidewater Umbra Vanguard Vista Waterford Westbrook Whitmore Willow Windermere Zephyr"
).split()

TRADES = [
    "Architects", "Bakery", "Brewing", "Chemicals", "Clinics", "Dairy", "Dental", "Energy", "Engineering", "Films", "Foods",
    "Foundation", "Furniture", "Gardens", "Hotels", "Insurance", "Interiors", "Labs", "Legal", "Logistics", "Media", "Motors",
    "Museum", "Optics", "Packaging", "Pharma", "Plastics", "Press", "Schools", "Shipping", "Sports", "Textiles", "Tools",
    "Travel",
]  # fmt: skip

FIRM_NOTES = ["Invoices go to their head office.", "Prefers a call to an e-mail.", "Needs a purchase order first."]

# names of pillars, and titles of their tasks
PILLARS: dict[str, list[str]] = {
    "General Support": [
        "Answer questions about the new intranet", "Set up a laptop for {who}", "Reset access for {who}",
        "Clean up the shared mailbox", "Help {who} with the video calls", "Replace the reception printer",
        "Look into slow logins on Monday mornings", "Restore a deleted folder for {who}", "Onboard {who}", "Offboard {who}",
        "Renew the software licences", "Write down how backups are checked",
    ],
    "Hosting": [
        "Migrate the mail server", "Move {where} to the new cluster", "Renew the certificates of {where}",
        "Upgrade Postgres behind {where}", "Raise the disk quota of {where}", "Set up monitoring for {where}",
        "Test restoring last night's backup", "Patch the web servers", "Close the unused ports", "Trace the outage of {where}",
        "Put {where} behind the CDN", "Review who can log in where",
    ],
    "Development": [
        "Add single sign-on to {where}", "Fix the rounding in the invoice export", "Make {where} work on phones",
        "Import the price list every night", "Replace the search of {where}", "Add a CSV export to the reports",
        "Find the memory leak in {where}", "Translate {where} into French", "Cover the checkout with tests",
        "Speed up the order list", "Send reminders for unpaid invoices", "Upgrade the framework of {where}",
    ],
    "Design": [
        "Draw icons for {where}", "Redesign the front page of {where}", "Templates for the newsletter", "New business cards",
        "Sketch the onboarding of {where}", "Check the contrast of {where}", "Slides for the annual meeting",
        "Style guide, second edition", "Prepare the trade fair booth", "Photographs for the team page",
    ],
    "Security": [
        "Penetration test of {where}", "Roll out hardware keys", "Review the firewall rules", "Phishing training",
        "Rotate the API keys of {where}", "Answer the insurer's questionnaire", "Close the findings of the audit",
        "Encrypt the sales laptops", "Write the incident plan", "Remove stale accounts from {where}",
    ],
    "Data": [
        "Dashboard for the sales team", "Merge duplicate contacts", "Monthly report for {who}", "Clean the product catalogue",
        "Feed {where} from the warehouse", "Archive the orders before 2019", "Explain the drop in March",
        "Forecast for the next quarter", "Track sign-ups on {where}", "Hand the figures over to the accountant",
    ],
    "Consulting": [
        "Workshop on the roadmap", "Compare three ticket systems", "Second opinion on the network plan",
        "Estimate for rebuilding {where}", "Interview the warehouse staff", "Choose a payment provider",
        "Plan next year's budget", "Sit in on the board meeting", "Review the contract with the telecom",
        "Sort out who owns {where}",
    ],
}  # fmt: skip

PLACES = ["the web shop", "the intranet", "the booking site", "the customer portal", "the old wiki", "the staging system"]

DESCRIPTIONS = [
    "Agreed on the phone; see the minutes.", "Please look at this before the end of the month.", "Came up again last week.",
    "Ask before changing anything in production.", "Their own IT knows about it.", "",
    "The details are in the ticket that they forwarded.", "",
]  # fmt: skip

NOTES = [
    "Call with the team", "Waiting for access, prepared the change", "Code review", "Deployed to staging", "Deployed",
    "Tested with the customer", "Wrote it up", "Looked into the logs", "Found the cause", "First draft", "Second draft",
    "Corrections", "Cleaned up", "Pairing", "Planning", "Answered e-mails", "Rolled back, tried again", "Fixed the tests",
    "Training session", "Documentation", "Quick fix on the phone", "On site", "Moved the data", "Checked the backups",
    "Configuration", "Estimate", "Research", "Stand-up and follow-ups", "Handed over", "Screen sharing with the user",
]  # fmt: skip

MEMOS = [
    "Includes the evening deployment.", "Travel not billed.", "Agreed as part of the fixed price.",
    "Second attempt after the outage.", "As discussed with the customer.", "Half of it was training.",
    "Please bill with next month's.",
]  # fmt: skip

REJECTIONS = [
    "Which ticket was this for?", "Please split this between support and development.", "The customer did not order this.",
    "Looks like another customer's work.", "Travel is not billable here.", "Please add notes to these entries.",
]  # fmt: skip

LEFT_RUNNING = "Was the timer left running overnight?"

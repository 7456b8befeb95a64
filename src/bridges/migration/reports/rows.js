// the rows of a table, one a line inside <noscript>, so that a long page holds only those it shows

const MARKS = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#x27;": "'"};

// put the table in place of the noscript element, without its rows; returns both
function takeRows(source) {
  const text = source.textContent, holder = document.createElement("template");
  holder.innerHTML = text.split("<tbody>")[0];
  const table = holder.content.querySelector("table");
  source.replaceWith(holder.content);
  return {table, lines: text.split("<tbody>\n")[1].split("\n").filter(line => line.startsWith("<tr"))};
}

// the text of HTML as html.escape of Python has written it
function plain(html) {
  return html.includes("&") ? html.replace(/&[a-z0-9#]+;/g, mark => MARKS[mark] ?? mark) : html;
}

// the words of a row, for a search in lower case
function wordsOf(line) {
  return plain(line.replace(/<[^>]*>/g, " ")).toLowerCase();
}

// A list whose rows stay the same elements for as long as they show the same. It promises: a click or a focus on a row
// survives whatever else changes in the list.

export interface Item {
  readonly key: string;
  /** A row with another signature is made anew. */
  readonly signature: string;
  readonly make: () => HTMLElement;
}

interface Row {
  readonly node: HTMLElement;
  readonly signature: string;
}

export class KeyedList {
  private rows = new Map<string, Row>();

  constructor(readonly element: HTMLElement) {}

  /** Moves, makes and removes as few rows as possible. */
  show(items: readonly Item[]): void {
    const rows = new Map<string, Row>();
    let at: ChildNode | null = this.element.firstChild;
    for (const item of items) {
      let row = this.rows.get(item.key);
      if (!row) {
        row = { node: item.make(), signature: item.signature };
      } else if (row.signature !== item.signature) {
        const node = item.make();
        if (at === row.node) at = node;
        row.node.replaceWith(node);
        row = { node, signature: item.signature };
      }
      rows.set(item.key, row);
      if (at === row.node) at = at.nextSibling;
      else this.element.insertBefore(row.node, at);
    }
    for (const [key, row] of this.rows) if (!rows.has(key)) row.node.remove();
    this.rows = rows;
  }
}

// Makes elements. It promises: a text is a text, whoever wrote it; there is no way here to make HTML of one.

import type { Key } from '../i18n/language';
import { onLanguage, t } from '../i18n/language';

type Child = Node | string | null;

export interface Props {
  readonly class?: string;
  readonly id?: string;
  readonly text?: string;
  /** A text of the pages, which follows the language; also for the accessible name and the placeholder. */
  readonly t?: Key;
  readonly tLabel?: Key;
  readonly tPlaceholder?: Key;
  readonly attributes?: Readonly<Record<string, string>>;
  readonly onClick?: () => void;
}

const following: { readonly node: WeakRef<HTMLElement>; readonly key: Key; readonly where: 'text' | 'aria-label' | 'placeholder' }[] = [];
onLanguage(() => {
  for (const one of following) {
    const node = one.node.deref();
    if (node) put(node, one.key, one.where);
  }
});

export function el<Tag extends keyof HTMLElementTagNameMap>(tag: Tag, props: Props = {}, ...children: Child[]): HTMLElementTagNameMap[Tag] {
  const node = document.createElement(tag);
  if (props.class) node.className = props.class;
  if (props.id) node.id = props.id;
  if (props.text !== undefined) node.textContent = props.text;
  if (props.t) follow(node, props.t, 'text');
  if (props.tLabel) follow(node, props.tLabel, 'aria-label');
  if (props.tPlaceholder) follow(node, props.tPlaceholder, 'placeholder');
  for (const [name, value] of Object.entries(props.attributes ?? {})) node.setAttribute(name, value);
  if (props.onClick) node.addEventListener('click', props.onClick);
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** A button of a form that is none of its submit buttons. */
export function button(props: Props, ...children: Child[]): HTMLButtonElement {
  return el('button', { ...props, attributes: { type: 'button', ...props.attributes } }, ...children);
}

/** A text of unknown reading direction, which stays its own business. */
export function foreign(text: string): HTMLElement {
  return el('bdi', { text });
}

/** Changes a text only if it is another, so that nothing flickers and no reader hears it twice. */
export function setText(node: HTMLElement, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

export function show(node: HTMLElement, visible: boolean): void {
  node.hidden = !visible;
}

let ids = 0;

/** An id for labels and descriptions. */
export function newId(): string {
  ids += 1;
  return `e${ids}`;
}

function follow(node: HTMLElement, key: Key, where: 'text' | 'aria-label' | 'placeholder'): void {
  following.push({ node: new WeakRef(node), key, where });
  put(node, key, where);
}

function put(node: HTMLElement, key: Key, where: 'text' | 'aria-label' | 'placeholder'): void {
  if (where === 'text') node.textContent = t(key);
  else node.setAttribute(where, t(key));
}
